"""Many good and hostile calls, and what is reported of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from harness.attacks.soak import Growth, Report
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
    assert report["wrong"] == 0
    assert report["hostile"]["abort"]["violation"] > 0


def test_the_same_seed_makes_the_same_calls() -> None:
    reports = [
        json.loads(soak("--backend", "sandcrust-fork", "--calls", "200", "--json").stdout)
        for _ in range(2)
    ]
    assert reports[0]["good"] == reports[1]["good"]
    assert reports[0]["hostile"] == reports[1]["hostile"]


def test_a_wrong_answer_a_harmed_canary_and_growth_fail() -> None:
    fine = Report(backend="w", seed=1, growth=[Growth("descriptors", 5, 5)])
    assert fine.passed
    assert not Report(backend="w", seed=1, wrong=1).passed
    assert not Report(backend="w", seed=1, harmed=["heap"]).passed
    for what, more in (("descriptors", 1), ("mappings", 9), ("bytes", (4 << 20) + 1)):
        assert not Report(backend="w", seed=1, growth=[Growth(what, 5, 5 + more)]).passed
        assert Report(backend="w", seed=1, growth=[Growth(what, 5 + more, 5)]).passed


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
