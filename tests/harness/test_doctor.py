from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pytest

from backends.contract import Availability, Backend, ForeignFunction, Sandbox
from backends.registry import Broken
from harness import doctor, host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Stub(Backend):
    """A backend that is only asked whether it is available."""

    answer: Availability = field(default_factory=Availability.yes)

    def availability(self) -> Availability:
        return self.answer

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        raise NotImplementedError  # the doctor opens nothing


@dataclass(frozen=True)
class Rude(Stub):
    def availability(self) -> Availability:
        raise RuntimeError("no manners")


HERE = Stub("here", "It works.", "nothing")
KEYS = Availability.no("the CPU has no protection keys", "run it on the emulated machine")
AWAY = Stub("away", "It does not.", "keys", answer=KEYS)


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def verdicts(checks: Sequence[doctor.Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


def test_this_machine_is_diagnosed_topic_by_topic(tmp_path: Path) -> None:
    diagnosis = doctor.diagnose(tmp_path / "results")
    topics = list(dict.fromkeys(check.topic for check in diagnosis.checks))
    assert topics == ["host", "backends", "counting", "storage", "noise"]
    assert sum((diagnosis.about(topic) for topic in topics), ()) == diagnosis.checks
    assert all(check.name and check.finding for check in diagnosis.checks)
    assert all("\n" not in check.finding for check in diagnosis.checks)
    assert not (tmp_path / "results").exists()


def test_the_worst_verdict_is_the_diagnosis() -> None:
    good = doctor.Check("host", "a", "ok", "fine")
    warn = doctor.Check("noise", "b", "warn", "noisy")
    bad = doctor.Check("storage", "c", "bad", "full")
    assert doctor.Diagnosis((good,)).verdict == "ok"
    assert doctor.Diagnosis((good, warn)).verdict == "warn"
    assert doctor.Diagnosis((bad, warn, good)).verdict == "bad"
    assert doctor.Diagnosis(()).verdict == "ok"


def test_a_machine_that_tells_nothing_of_itself_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    checks = doctor.check_host(host.facts(tmp_path))
    assert verdicts(checks) == {"CPU": "ok", "kernel": "ok", "memory": "ok"}


# ---- backends ----


def test_an_unavailable_backend_is_shown_with_its_reason_and_remedy() -> None:
    here, away = doctor.check_backends([HERE, AWAY], [])
    assert (here.verdict, here.finding) == ("ok", "It works.")
    assert away.verdict == "warn"
    assert away.finding == "the CPU has no protection keys"
    assert away.remedy == "run it on the emulated machine"


def test_walls_that_lack_the_same_are_one_check() -> None:
    others = [Stub(f"away-{n}", "It does not.", "keys", answer=KEYS) for n in range(5)]
    few, here = doctor.check_backends([AWAY, HERE, others[0]], [])
    assert (few.name, here.name) == ("away, away-0", "here")
    many, _ = doctor.check_backends([AWAY, *others, HERE], [])
    assert many.name == "away and 5 more (isobench list)"
    assert (many.verdict, many.finding, many.remedy) == ("warn", KEYS.reason, KEYS.remedy)


def test_a_backend_that_is_less_here_than_elsewhere_is_shown_with_what_is_missing() -> None:
    less = Stub("less", "It works.", "nothing", answer=Availability.yes("this kernel lacks it"))
    _, check = doctor.check_backends([HERE, less], [])
    assert check.verdict == "warn"
    assert check.finding == "It works. But this kernel lacks it"


def test_a_backend_that_raises_when_asked_is_shown_and_the_rest_goes_on() -> None:
    rude, here = doctor.check_backends([Rude("rude", "Raises.", "nothing"), HERE], [])
    assert rude.verdict == "bad"
    assert "RuntimeError: no manners" in rude.finding
    assert here.verdict == "ok"


def test_an_entry_point_that_gave_no_backend_is_shown_with_its_error() -> None:
    _, broken = doctor.check_backends([HERE], [Broken("mine = mine:W", "ImportError: no mine")])
    assert (broken.name, broken.verdict) == ("mine = mine:W", "bad")
    assert "no mine" in broken.finding
    assert broken.remedy


def test_having_nothing_to_measure_is_bad() -> None:
    (none,) = doctor.check_backends([], [])
    assert none.verdict == "bad"
    *_, summary = doctor.check_backends([AWAY], [])
    assert summary.verdict == "bad"


# ---- counting ----


def test_missing_tools_for_counting_are_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt_get = tmp_path / "apt-get"
    apt_get.write_text("#!/bin/sh\nexit 1\n")
    apt_get.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    strace, valgrind = doctor.check_counting()
    assert (strace.name, valgrind.name) == ("strace", "valgrind")
    assert (strace.verdict, valgrind.verdict) == ("warn", "warn")
    assert strace.remedy == "sudo apt-get install -y strace"


def test_a_tool_that_may_not_trace_is_told_with_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {"strace": "echo 'PTRACE_TRACEME: not permitted' >&2; exit 1", "valgrind": "exit 0"}
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (check,) = doctor.check_counting()
    assert check.verdict == "warn"
    assert "not permitted" in check.finding
    assert "ptrace" in check.remedy


# ---- storage ----


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    check = doctor.check_storage(tmp_path / "not" / "yet")
    assert check.verdict in ("ok", "warn")
    assert "GB free" in check.finding


@pytest.mark.parametrize(("free", "verdict"), [(10**12, "ok"), (10**8, "warn"), (10**7, "bad")])
def test_little_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**12, 0, free))
    check = doctor.check_storage(tmp_path)
    assert check.verdict == verdict
    assert bool(check.remedy) == (verdict != "ok")


def test_a_file_in_the_folders_place_is_bad(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    assert doctor.check_storage(tmp_path / "results" / "run").verdict == "bad"


def test_a_folder_that_cannot_be_written_to_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    check = doctor.check_storage(tmp_path)
    assert check.verdict == "bad"
    assert str(tmp_path) in check.finding


def test_a_disk_that_cannot_be_asked_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    check = doctor.check_storage(tmp_path)
    assert check.verdict == "bad"
    assert "Input/output error" in check.finding


# ---- noise ----


def test_noise_is_told_with_what_would_make_the_machine_quieter() -> None:
    (check,) = doctor.check_noise([host.Noise("On battery", "Plug it in.")])
    assert (check.verdict, check.finding, check.remedy) == ("warn", "On battery", "Plug it in.")


def test_a_quiet_machine_is_called_so() -> None:
    (check,) = doctor.check_noise([])
    assert check.verdict == "ok"
