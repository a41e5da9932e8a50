# Everything from a fresh clone to figures. `make` alone lists what there is.
#
# All paths are relative, so the project's folder may have spaces in its name.
# Stamps in .make/ say what is done; `make clean` forgets them.

PYTHON ?= python3
PRESET ?= quick
PYPERF ?=
PYTEST ?=
RUN ?=
TARGET ?=
SECONDS ?=

bin := .venv/bin

# What the compiled extension is made of, and what says which packages are needed.
sources := pyproject.toml \
	$(wildcard backends/_native.*.txt backends/_native.*.c) \
	$(shell find native -name '*.[chS]' -o -name '*.txt')

c_files = $(shell find native $(wildcard tests/native tests/fuzz) -name '*.[ch]')

# Tests count as well as build: asked for together, what is missing is told in one line to type.
ifneq ($(filter test,$(MAKECMDGOALS)),)
prerequisites := .make/prerequisites-test
groups := --group build --group count
else
prerequisites := .make/prerequisites
groups := --group build
endif

# $(call pip,ARGUMENTS,LOG): install quietly; if that fails, show the end of the log and its place.
pip = $(bin)/python -m pip install --disable-pip-version-check --no-input $(1) > $(2) 2>&1 \
	|| { status=$$?; tail -n 20 $(2); echo "Failed. All of it is in $$PWD/$(2)"; exit $$status; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
# Under make -j, too, a benchmark has the machine to itself; the build is parallel on its own.
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '%-18s %s\n' "  $$target" "$$text"; done

.PHONY: bench
bench: .make/installed ## measure and draw: PRESET=quick, PYPERF="--rigorous" for pyperf's options
	@$(bin)/isobench run --preset $(PRESET) $(if $(PYPERF),-- $(PYPERF))

.PHONY: attack
attack: .make/installed ## attack every wall, and draw what each attack did
	@$(bin)/isobench attack

.PHONY: figures
figures: .make/installed ## draw a run's figures again: RUN=results/NAME
	@test -n "$(RUN)" || { echo "Which run? make figures RUN=results/NAME"; exit 2; }
	@$(bin)/isobench figures "$(RUN)"

.PHONY: notebooks
notebooks: .make/installed ## execute the notebooks and keep their outputs: RUN=results/NAME
	@$(if $(RUN),ISOBENCH_RUN="$(abspath $(RUN))") $(bin)/python -m harness.notebooks notebooks

.PHONY: test
test: .make/installed ## run the tests: PYTEST="-k name" for pytest's options
	@$(bin)/python -m pytest $(PYTEST)

.PHONY: fuzz
fuzz: .make/fuzzers ## fuzz what reads foreign bytes: TARGET=exchange SECONDS=60 (tests/fuzz/README.md)
	@$(MAKE) -C tests/fuzz $(if $(TARGET),TARGET="$(TARGET)") $(if $(SECONDS),SECONDS=$(SECONDS))

.PHONY: faults
faults: .make/installed ## make each system call of the walls fail, with each errno; a report
	@$(bin)/python tests/faults.py

.PHONY: lint
lint: .make/linters ## check style, types and formatting; changes nothing
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy --strict
	$(bin)/clang-format --dry-run -Werror $(c_files)

.PHONY: format
format: .make/linters ## format Python and C
	$(bin)/ruff check --select I --fix --quiet
	$(bin)/ruff format
	$(bin)/clang-format -i $(c_files)

.PHONY: venv
venv: .make/installed ## build and install into .venv; the other targets do it as needed

.PHONY: clean
clean: ## remove what was built and cached; keep .venv and results
	rm -rf build dist *.egg-info .make .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find $(wildcard harness backends tests notebooks) -name __pycache__ -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove .venv, too; keep results
	rm -rf .venv

# ---- what the targets stand on ----

$(prerequisites): harness/prerequisites.py
	@mkdir -p .make
	@command -v $(PYTHON) > .make/python \
		|| { echo "No $(PYTHON) here. Install Python 3.11 or newer, or: make PYTHON=..."; exit 2; }
	@# -I: the script's own folder must not stand in for the standard library.
	@$(PYTHON) -I harness/prerequisites.py $(groups)
	@touch $@

# Made anew when it is gone or its Python is: make sees no file at the end of a broken link.
$(bin)/python: | $(prerequisites)
	@rm -f .make/installed .make/linters
	@echo "Making .venv with $$(cat .make/python)"
	@# Half of one would look like a whole one the next time.
	@trap 'rm -rf .venv' INT TERM; $(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 2; }

.make/installed: $(sources) $(bin)/python | $(prerequisites)
	@mkdir -p .make
	@echo "Building and installing into .venv"
	@$(call pip,-e '.[test]',.make/install.log)
	@touch $@

.make/fuzzers: pyproject.toml .make/installed
	@$(bin)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"], sep="\n")' > .make/fuzzers.txt
	@$(call pip,-r .make/fuzzers.txt,.make/fuzzers.log)
	@touch $@

# The extra's packages by themselves: installing `.[lint]` would build the extension again.
.make/linters: pyproject.toml .make/installed
	@echo "Installing the linters into .venv"
	@$(bin)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lint"], sep="\n")' > .make/linters.txt
	@$(call pip,-r .make/linters.txt,.make/linters.log)
	@touch $@
