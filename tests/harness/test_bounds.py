from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness import bounds


def test_every_bound_has_a_figure_and_every_figure_a_bound() -> None:
    assert {bound.name for bound in bounds.bounds()} == set(bounds._FIGURES)


@pytest.mark.parametrize(
    "bound", [b for b in bounds.bounds() if b.kind == "count"], ids=lambda b: b.name
)
def test_counts_are_within_their_bounds(bound: bounds.Bound) -> None:
    outcome = bounds.measure(bound)
    assert outcome.ok, f"{bound.name}: {outcome.value} > {bound.bound} {outcome.problem}"


def test_a_figure_above_its_bound_is_named_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from click.testing import CliRunner

    from harness.cli.bounds import command

    monkeypatch.setitem(bounds._FIGURES, "native-loop", lambda: 99.0)
    done = CliRunner().invoke(command, ["native-loop", "--json"])
    assert done.exit_code == 1
    assert "fell short: native-loop" in done.output


def test_a_missing_tool_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    [bound] = [b for b in bounds.bounds() if b.name == "syscalls-sandcrust-pipe"]
    outcome = bounds.measure(bound)
    assert not outcome.ok
    assert "apt-get install strace" in outcome.problem


def test_the_command_prints_json_for_programs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "bounds", "instructions-none", "--json"],
        capture_output=True,
        text=True,
    )
    [row] = json.loads(done.stdout)
    assert row["ok"] is True
    assert 5 < row["value"] <= row["bound"]
