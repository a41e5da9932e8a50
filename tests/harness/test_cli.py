from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from backends import registry
from backends.contract import Availability
from harness import emulated, run
from harness.cli import _COMMANDS, list_backends
from small_runs import FAST, broken_plan


def isobench(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = isobench(command, "--help")
    assert done.returncode == 0
    assert f"isobench {command}" in done.stdout.split("Examples:")[1]


def test_the_console_command_is_the_module() -> None:
    console = shutil.which("isobench", path=str(Path(sys.executable).parent))
    assert console is not None
    by_name = subprocess.run([console, "--version"], capture_output=True, text=True, check=True)
    assert by_name.stdout == isobench("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--preset", "huge"], "huge"),
        (["run", "--backend", "mkp"], "did you mean mpk?"),
        (["plan", "--workload", "snapy-compress"], "did you mean snappy-compress or"),
        (["run", "--preset", "smokey"], "did you mean smoke?"),
        (["run", "--resume", "nowhere", "--results", "x"], "--results"),
        (["run", "--size", "0"], "0"),
        (["run", "--frobnicate"], "frobnicate"),
        (["run", "--", "--frobnicate"], "frobnicate"),
        (["run", "--", "--output=x"], "--output"),
        (["run", "--", "--affinity=4096"], "--affinity=4096"),
        (["run", "--resume", "nowhere", "--name", "x"], "--name"),
        (["run", "--resume", "nowhere"], "nowhere"),
        (["run", "--resume", "--results", "."], "no unfinished run"),
        (["plan", "--content", "images"], "images"),
        (["figures", "nowhere"], "nowhere is not a run"),
        (["tables", "nowhere"], "nowhere is not a run"),
        (["paper", "nowhere"], "nowhere is not a run"),
        (["compare", "nowhere", "nowhere"], "nowhere is not a run"),
        (["bounds", "speed"], "no figure 'speed'"),
        (["bounds", "--counts", "native-loop"], "native-loop is a ratio"),
        (["frobnicate"], "no command 'frobnicate'"),
        (["attak"], "did you mean attack"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = isobench(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_hints_name_the_command_as_it_can_be_pasted(tmp_path: Path) -> None:
    done = isobench("run", "--resume", "--results", tmp_path, cwd=tmp_path)
    [hint] = re.findall(r"Start one: `(.*) run`", done.stderr)
    command = [*shlex.split(hint), "--version"]
    pasted = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert pasted.stdout.startswith("isobench, version"), pasted.stderr
    assert f"Usage: {hint} run" in done.stderr
    assert f"  {hint} plan --preset paper" in isobench("plan", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--rigorous", "-- --rigorous"),
        ("--affinity 0 --level native", "--level native -- --affinity 0"),
        ("-p 3 -- --values=4", "-- -p 3 --values=4"),
    ],
)
def test_options_of_pyperf_without_dashes_before_them_are_told_the_command_to_type(
    typed: str, meant: str
) -> None:
    done = isobench("plan", *typed.split())
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()
    assert line.endswith(f"isobench plan {meant}")
    assert subprocess.run(shlex.split(line), capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "module", ["click", "harness.cli", "harness.cli.plan", "msgspec", "pyperf"]
)
def test_ctrl_c_ends_a_command_quietly_also_while_it_is_loaded(module: str) -> None:
    program = (
        "import os, signal, sys\n"
        "class Interrupts:\n"
        "    def find_spec(name, path, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts)\n"
        "from harness.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "plan"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_importing_the_harness_and_its_help_loads_nothing_heavy() -> None:
    program = (
        "import sys, harness, backends.contract, harness.cli; "
        "print([m for m in ('pandas', 'matplotlib', 'scipy', 'pyarrow', 'numpy') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_measuring_loads_neither_pandas_nor_matplotlib() -> None:
    program = (
        "import sys, harness.run, harness.worker, harness.cli.run; "
        "print([m for m in ('pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [["list"], ["plan"], ["doctor"], ["attack", "--list"], ["gadgets", "libc.so.6"]]
)
def test_output_that_finds_no_room_is_one_message_and_exit_code_2(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "cannot write the output: No space left on device\n"


def test_list_names_every_backend_with_its_availability() -> None:
    done = isobench("list", "--json")
    backends = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert backends["none"]["available"] is True
    assert backends["sandcrust-pipe"]["guarantees"]["recovery"] is True
    assert backends["sandcrust-pipe"]["options"]["placement"] == "same-core"
    assert "sandcrust-pipe" in isobench("list").stdout


def test_list_gives_the_reason_for_an_unavailable_backend() -> None:
    cpu = min(os.sched_getaffinity(0))
    done = isobench("list", preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    assert "needs 2 CPUs" in " ".join(done.stdout.split())


def test_list_says_what_of_a_backend_is_less_here_than_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall = registry.find("sandcrust-pipe-hardened")
    less = Availability.yes("this kernel has no Landlock")
    monkeypatch.setattr(type(wall), "availability", lambda _: less)
    done = CliRunner().invoke(list_backends.command, [])
    assert "sandcrust-pipe-hardened" in " ".join(done.output.split("Here, but: ")[1].split())
    assert "this kernel has no Landlock." in " ".join(done.output.split())


def test_plan_shows_cells_and_time_and_measures_nothing(tmp_path: Path) -> None:
    done = isobench("plan", "--preset", "paper", cwd=tmp_path)
    assert done.returncode == 0
    assert "cells, about" in done.stdout
    assert len(json.loads(isobench("plan", "--json").stdout)["cells"]) > 50
    assert list(tmp_path.iterdir()) == []


def test_a_run_ends_with_figures_and_tables_and_says_where(tmp_path: Path) -> None:
    done = isobench(
        "run", "--results", tmp_path, "--backend", "none", "--backend", "sandcrust-pipe",
        "--preset", "smoke", "--size", 64, "--", *FAST,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = tmp_path.iterdir()
    shown = [Path(line.strip()) for line in done.stdout.splitlines() if line.endswith(".png")]
    assert shown
    assert all(path.exists() for path in shown)
    for name in ("results.csv", "results.parquet", "run.json", "benchmarks.json"):
        assert (folder / name).exists()
    assert list((folder / "tables").glob("*.tex"))


def test_a_failed_cell_is_exit_code_1_and_the_rest_is_there(tmp_path: Path) -> None:
    folder = run.new_run(broken_plan(), tmp_path)
    done = isobench("run", "--resume", folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "switch/no-such-backend: LookupError" in done.stderr
    assert "--resume" in done.stderr
    assert list((folder / "figures").glob("*.png"))


def test_a_wall_that_pyperfs_cpus_do_not_allow_is_unavailable() -> None:
    cpu = min(os.sched_getaffinity(0))
    done = isobench("plan", "--json", "--preset", "smoke", "--", f"--affinity={cpu}")
    plan = json.loads(done.stdout)
    assert "sandcrust-pipe-other-core" in [u["backend"] for u in plan["unavailable"]]
    assert "sandcrust-pipe-other-core" not in [cell["backend"] for cell in plan["cells"]]


def test_a_results_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = isobench("run", "--results", blocked / "under", "--backend", "none", "--", *FAST)
    assert done.returncode == 2
    assert f"cannot write {blocked / 'under'}: Not a directory" in done.stderr
    assert "--results" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["figures", "tables"])
def test_figures_and_tables_that_cannot_be_written_are_a_clear_error(
    finished: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    to = tmp_path / "file" / "under"
    done = isobench(command, finished, "--to", to)
    assert done.returncode == 2
    assert f"cannot write {to}: Not a directory" in done.stderr
    assert "with --to" in done.stderr


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(emulated.EmulationError, match=r"file/isobench.*XDG_CACHE_HOME"):
        emulated.kernel("6.12")


def test_the_papers_parts_are_listed_with_files_and_what_a_run_lacks(finished: Path) -> None:
    before = isobench("paper", finished)
    assert before.returncode == 0
    assert "figures/figure2{.png,.svg,.pdf}  (not written yet: .png, .svg, .pdf)" in before.stdout
    assert "Table I: decoding PNG with libpng; none; measure png-decode" in before.stdout
    assert isobench("figures", finished).returncode == 0
    assert isobench("tables", finished).returncode == 0
    assert "not written yet" not in isobench("paper", finished).stdout


def test_figures_and_tables_are_made_again_from_a_stored_run(
    finished: Path, tmp_path: Path
) -> None:
    for command in ("figures", "tables"):
        to = tmp_path / command
        done = isobench(command, finished, "--to", to)
        assert done.returncode == 0, done.stderr
        files = [Path(line) for line in done.stdout.splitlines()]
        assert files
        assert all(path.exists() and path.is_relative_to(to) for path in files)


def test_compare_of_runs_without_a_common_cell_says_so(finished: Path, tmp_path: Path) -> None:
    done = isobench(
        "run", "--results", tmp_path / "r", "--backend", "none", "--workload",
        "snappy-uncompress", "--preset", "smoke", "--no-figures", "--", *FAST,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [other] = (tmp_path / "r").iterdir()
    done = isobench("compare", finished, other)
    assert done.returncode == 2
    assert "no cell in common" in done.stderr
