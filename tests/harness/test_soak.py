"""Many good and hostile calls, and what is reported of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from backends.contract import (
    Fault,
    ForeignFunction,
    Sandbox,
    SandboxDeadError,
    ViolationError,
    ViolationKind,
)
from harness.attacks.soak import Growth, Report, _good
from harness.cli import main as cli

if TYPE_CHECKING:
    from pathlib import Path


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "soak", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("wall", ["sandcrust-pipe", "sandcrust-fork"])
def test_good_calls_between_hostile_ones_are_right_and_nothing_grows(
    wall: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    done = soak("--backend", wall, "--calls", "2000", "--hostile", "0.3", "--report", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answered wrongly" in done.stdout
    report = json.loads(path.read_text())
    hostile = sum(sum(outcomes.values()) for outcomes in report["hostile"].values())
    assert report["calls"] == report["good"] + hostile == 2000
    assert hostile > 300
    assert report["wrong"] == report["failed"] == 0
    assert report["hostile"]["abort"]["violation"] > 0


def test_the_same_seed_makes_the_same_calls() -> None:
    reports = [
        json.loads(soak("--backend", "sandcrust-fork", "--calls", "200", "--json").stdout)
        for _ in range(2)
    ]
    assert reports[0]["good"] == reports[1]["good"]
    assert reports[0]["hostile"] == reports[1]["hostile"]


def test_a_wrong_or_failed_answer_a_harmed_canary_and_growth_fail() -> None:
    fine = Report(backend="w", seed=1, growth=[Growth("descriptors", 5, 5)])
    assert fine.passed
    assert not Report(backend="w", seed=1, wrong=1).passed
    assert not Report(backend="w", seed=1, failed=1).passed
    assert Report(backend="w", seed=1, spoilt=1).passed
    assert not Report(backend="w", seed=1, harmed=["heap"]).passed
    for what, more in (("descriptors", 1), ("mappings", 9), ("bytes", (4 << 20) + 1)):
        assert not Report(backend="w", seed=1, growth=[Growth(what, 5, 5 + more)]).passed
        assert Report(backend="w", seed=1, growth=[Growth(what, 5 + more, 5)]).passed


def soak_here(wall: str, calls: int, hostile: float, *functions: str) -> Report:
    """Soak what the command refuses, in a process of its own: canaries stay until it ends."""
    script = f"""
import sys
from dataclasses import replace
import msgspec
from backends import registry
from harness.attacks import soak

soak._HOSTILE = {functions!r} or soak._HOSTILE
report = soak.Soak({wall}, {calls}, {hostile}, 1).run(lambda _: None)
sys.stdout.write(msgspec.json.encode(report).decode())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Report)


def test_harm_done_by_the_first_calls_is_seen() -> None:
    report = soak_here("registry.find('none')", 200, 0.3, "write")
    assert report.hostile["write"]["returned"] > 30
    assert report.harmed == ["heap"]
    assert not report.passed


class Told(Sandbox):
    """Ends calls as it is told, from the first to the last."""

    def __init__(self, ends: str) -> None:
        self._ends = iter(ends)

    def call(self, function: ForeignFunction, data: Any = b"", *, timeout: Any = None) -> bytes:
        end = next(self._ends)
        if end == "v":
            raise ViolationError("f", Fault(ViolationKind.TIMEOUT))
        if end == "d":
            raise SandboxDeadError("dead")
        return b"wrong" * 2000 if end == "w" else bytes(data)[::-1]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("ends", "corrupted", "counts", "then"),
    [
        ("r", True, (0, 0, 0), True),
        ("r", False, (0, 0, 0), False),
        ("w", True, (1, 0, 0), False),
        ("v", False, (0, 1, 0), False),
        ("vr", True, (0, 0, 1), False),
        ("vv", True, (0, 1, 0), False),
        ("vw", True, (0, 1, 0), False),
        ("dd", True, (0, 1, 0), False),
    ],
)
def test_a_good_call_may_fail_once_and_only_after_a_hostile_one_returned(
    ends: str, corrupted: bool, counts: tuple[int, int, int], then: bool
) -> None:
    report = Report(backend="w", seed=1)
    rng = random.Random(1)  # noqa: S311 - contents of a call
    assert _good(Told(ends), rng, report, corrupted=corrupted) == then
    assert (report.wrong, report.failed, report.spoilt) == counts
    assert bool(report.first_wrong) == (not report.passed)


def test_a_wall_that_never_works_again_fails() -> None:
    report = soak_here("replace(registry.find('sandcrust-pipe'), respawn=False)", 100, 0.5)
    assert report.calls == 100
    assert report.failed > 20
    assert not report.passed


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--backend", "none"], "does not claim recovery"),
        (["--backend", "sandcrust"], "sandcrust-pipe"),
        (["--backend", "sandcrust-pipe", "--report", "/nowhere/x.json"], "--report"),
    ],
)
def test_bad_input_is_told(arguments: list[str], hint: str) -> None:
    done = CliRunner().invoke(cli, ["soak", *arguments])
    assert done.exit_code == 2
    assert hint in done.output


def test_ctrl_c_reports_what_was_done() -> None:
    command = [sys.executable, "-m", "harness", "soak", "--backend", "sandcrust-pipe", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 0 < json.loads(out)["calls"] < 1_000_000
