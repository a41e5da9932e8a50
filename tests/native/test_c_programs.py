"""The C tests of native/, each as a test of pytest: once as they are, once under the sanitizers.

The first test that asks for a build gets it, in `build/tests-native-*`, and runs with it all the C
tests that pytest has selected. They are named by the `TEST(...)` lines of the programs beside this
file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

from c_programs import CONFIGURATIONS, build, build_folder, cpus, names_in, run, tool

HERE = Path(__file__).parent
NAMES = sorted(f"{source.stem}.{name}" for source in HERE.glob("*.c") for name in names_in(source))

pytestmark = pytest.mark.timeout(600)  # the first test waits for the build and for all C tests


class Outcome(NamedTuple):
    status: str
    output: str


class Suite:
    """One configuration of the C tests: built when first asked for, then run as a whole."""

    def __init__(self, configuration: str, names: set[str]) -> None:
        self._configuration = configuration
        self._names = names  # that pytest has selected
        self._folder = build_folder(configuration)
        self._outcomes: dict[str, Outcome] | None = None

    def outcome(self, name: str) -> Outcome:
        if self._outcomes is None:
            self._outcomes = {}  # a build that fails is not tried again
            build(self._configuration)
            self._outcomes = self._run()
        assert name in self._outcomes, f"ctest has not run {name}; did the build fail?"
        return self._outcomes[name]

    def _run(self) -> dict[str, Outcome]:
        report = self._folder / "ctest.xml"
        report.unlink(missing_ok=True)
        selected = "|".join(re.escape(name) for name in sorted(self._names))
        command = [*tool("ctest"), "--test-dir", self._folder, "--output-junit", report]
        if self._names != set(NAMES):
            command += ["--tests-regex", f"^({selected})$"]
        done = run(*command, "--parallel", str(cpus()))
        assert report.exists(), done.stdout
        return {
            case.attrib["name"]: Outcome(case.attrib["status"], case.findtext("system-out", ""))
            for case in ET.parse(report).getroot().iter("testcase")
        }


@pytest.fixture(scope="module")
def suites(request: pytest.FixtureRequest) -> dict[str, Suite]:
    selected: dict[str, set[str]] = {configuration: set() for configuration in CONFIGURATIONS}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.originalname == test_in_c.__name__:
            parameters = item.callspec.params
            selected[str(parameters["configuration"])].add(str(parameters["name"]))
    return {configuration: Suite(configuration, names) for configuration, names in selected.items()}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_in_c(suites: dict[str, Suite], configuration: str, name: str) -> None:
    outcome = suites[configuration].outcome(name)
    if outcome.status == "notrun" and outcome.output.startswith("skipped: "):
        pytest.skip(outcome.output.removeprefix("skipped: ").strip())
    assert outcome.status == "run", f"{outcome.status}\n{outcome.output}"


def test_every_program_is_built() -> None:
    listed = (HERE / "CMakeLists.txt").read_text()
    for program in {name.partition(".")[0] for name in NAMES}:
        assert re.search(rf"\b{program}\b", listed), f"{program}.c is not in CMakeLists.txt"
