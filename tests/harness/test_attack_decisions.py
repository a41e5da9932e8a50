"""How it is decided what an attack did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import registry
from backends.contract import Guarantees
from harness.attacks import canaries, catalogue, model, supervisor, victim
from harness.attacks.host import Channel, Host, Report, later_calls
from harness.attacks.model import Attack, Harm, Outcome

ATTACK = Attack("a", "a", "memory", "does something", "memory")
ENTRY = catalogue.Entry(ATTACK, "a")
WALL = registry.find("sandcrust-pipe")
CONTROL = registry.find("none")


def decide(
    report: Report | None,
    status: int | None = 0,
    left: int = 0,
    lost: list[str] | None = None,
    host: Host = Host(ENTRY, WALL, {}),  # noqa: B008 - it is frozen
) -> tuple[Outcome, list[Harm]]:
    outcome, harms, _ = supervisor.decide(host, report, status, left, lost)
    return outcome, harms


def report(**changes: object) -> Report:
    seen = dict.fromkeys(canaries.CLAIMS, "as it was")
    fields = {"opened": True, "attacked": True, "called": "returned", "done": True}
    fields |= {"next": "right", "second": "right", "before": seen, "after": dict(seen)}
    return Report(**fields | changes)  # type: ignore[arg-type]


def broken() -> dict[str, dict[str, Any]]:
    script = Path(__file__).with_name("broken_walls.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    return broken()


# ---- from what a host told ----


def test_a_call_that_returns_and_harms_nothing_is_harmless() -> None:
    assert decide(report()) == (Outcome.HARMLESS, [])
    assert decide(report(called="error", code=1)) == (Outcome.HARMLESS, [])


def test_an_error_after_which_calls_are_right_is_recovery() -> None:
    assert decide(report(called="violation")) == (Outcome.RECOVERED, [])


@pytest.mark.parametrize("failed", ["ViolationError: x", "SandboxDeadError: x", "OSError: x"])
def test_recovery_is_that_after_a_violation_the_next_call_is_right(failed: str) -> None:
    outcome, harms = decide(report(called="violation", next=failed))
    assert outcome is Outcome.CONTAINED
    assert [harm.claim for harm in harms] == ["recovery"]
    assert model.refuted(WALL.guarantees, ATTACK, harms) == ["recovery"]
    assert model.refuted(Guarantees(heap=True), ATTACK, harms) == []


@pytest.mark.parametrize("called", ["returned", "error", "violation", "SandboxBusyError"])
def test_whatever_came_of_an_attack_the_second_next_call_is_right(called: str) -> None:
    outcome, harms = decide(report(called=called, next="ViolationError: x", second="OSError: x"))
    assert outcome is Outcome.CONTAINED
    assert model.refuted(WALL.guarantees, ATTACK, harms) == ["recovery"]


def test_a_call_that_returned_may_have_spoilt_the_next_one() -> None:
    assert decide(report(next="ViolationError: x")) == (Outcome.CONTAINED, [])


@pytest.mark.parametrize("name", canaries.CLAIMS)
def test_whatever_is_changed_is_an_escape(name: str) -> None:
    changed = dict.fromkeys(canaries.CLAIMS, "as it was") | {name: "otherwise"}
    for called in ("returned", "violation"):
        outcome, harms = decide(report(called=called, after=changed))
        assert (outcome, harms) == (Outcome.ESCAPED, [Harm(name, canaries.CLAIMS[name])])


def test_what_is_told_is_disclosed_and_what_is_done_besides_an_escape() -> None:
    for told in ("secret", "heap"):
        assert decide(report(told=[told]))[0] is Outcome.DISCLOSED
        assert decide(report(told=[told]), left=1)[0] is Outcome.ESCAPED
    assert decide(report(told=["secret file"]))[0] is Outcome.ESCAPED


def test_all_that_is_told_is_harm() -> None:
    outcome, harms = decide(report(told=["heap", "secret"]))
    assert outcome is Outcome.DISCLOSED
    assert [harm.claim for harm in harms] == ["confidentiality", "secrets"]
    made = canaries.Canaries.__new__(canaries.Canaries)
    made._contents = {"heap": b"h" * 64, "stack": b"s" * 64}
    made._inverse = bytes(64)
    assert made.told(b"-" + b"h" * 64 + b"\xff" * 64) == ["heap", "secret"]
    assert made.told(b"h" * 63) == []


def test_what_the_system_reads_for_an_attack_is_harm_that_refusing_system_calls_excludes() -> None:
    by_system = msgspec.structs.replace(ATTACK, means="system call")
    host = Host(ENTRY._replace(attack=by_system), WALL, {})
    outcome, harms = decide(report(told=["late"]), host=host)
    assert outcome is Outcome.DISCLOSED
    assert [harm.claim for harm in harms] == ["confidentiality", "syscalls"]
    assert model.refuted(Guarantees(syscalls=True), by_system, harms) == ["syscalls"]


def test_a_host_has_no_other_copy_of_its_secret_before_the_attack(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from harness.attacks.canaries import Canaries\n"
        "made = Canaries(Path(sys.argv[1]), None, {}); made.late()\n"
        "seen = made.observe(attacked=False), made.memory()\n"
        "print(made._inverse.hex(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        secret = bytes(0xFF ^ byte for byte in bytes.fromhex(host.stdout.readline().decode()))
        maps = Path(f"/proc/{host.pid}/maps").read_text(encoding="utf-8").splitlines()
        copies = 0
        with Path(f"/proc/{host.pid}/mem").open("rb", buffering=0) as memory:
            for line in (line for line in maps if " rw-p " in line):
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                copies += os.pread(memory.fileno(), end - begin, begin).count(secret)
        host.kill()
    assert copies == 1


def test_a_secret_that_was_changed_is_an_escape_though_reading_it_is_a_disclosure() -> None:
    changed = dict.fromkeys(canaries.CLAIMS, "as it was") | {"secret": "otherwise"}
    assert decide(report(after=changed))[0] is Outcome.ESCAPED
    assert decide(report(after=changed, told=["secret"]))[0] is Outcome.ESCAPED


def test_what_is_left_behind_is_an_escape() -> None:
    assert decide(report(), left=1)[0] is Outcome.ESCAPED


@pytest.mark.parametrize("which", ["next", "second"])
def test_a_wrong_answer_is_an_escape(which: str) -> None:
    outcome, harms = decide(report(**{which: "wrong: b''"}))
    assert outcome is Outcome.ESCAPED
    assert harms[0].claim == "recovery"


def test_an_attack_that_is_unable_was_not_tried_only_where_there_is_no_wall() -> None:
    unable = report(called="error", code=supervisor._UNABLE)
    assert decide(unable, host=Host(ENTRY, CONTROL, {}))[0] is Outcome.UNAVAILABLE
    assert decide(unable)[0] is Outcome.HARMLESS
    assert decide(report(called="error", code=76), host=Host(ENTRY, CONTROL, {}))[0] is (
        Outcome.HARMLESS
    )


def test_a_host_that_does_not_come_to_its_end_died_or_hung() -> None:
    for lost in (None, []):
        assert decide(report(done=False), signal.SIGSEGV, lost=lost)[0] is Outcome.HOST_DIED
        assert decide(report(done=False), 0, lost=lost)[0] is Outcome.HOST_DIED
        assert decide(report(done=False), None, lost=lost)[0] is Outcome.HUNG


@pytest.mark.parametrize("status", [signal.SIGSEGV, 0, None])
def test_what_a_host_lost_before_its_end_is_an_escape(status: int | None) -> None:
    outcome, harms = decide(report(done=False), status, lost=["heap", "stack"])
    assert outcome is Outcome.ESCAPED
    assert [harm.claim for harm in harms[1:]] == ["heap", "stack"]
    assert model.refuted(Guarantees(heap=True, stack=True), ATTACK, harms) == ["heap", "stack"]


def test_it_is_said_where_nobody_knows_what_a_host_lost() -> None:
    for lost, known in (([], True), (None, False)):
        said = supervisor.decide(Host(ENTRY, WALL, {}), report(done=False), 0, 0, lost)[2]
        assert ("not known" in said) != known


def test_a_host_that_fails_before_the_attack_says_nothing_about_the_wall() -> None:
    for told in (
        Report(failed="Traceback"),
        Report(opened=True, failed="Traceback"),
        report(called=""),
    ):
        with pytest.raises(RuntimeError, match="by itself"):
            decide(told)
    with pytest.raises(RuntimeError, match="by itself"):
        decide(Report(), status=signal.SIGKILL)


# ---- what a host tells ----


def test_a_report_that_was_overwritten_is_an_escape() -> None:
    assert decide(None, signal.SIGSEGV) == (Outcome.ESCAPED, [Harm("the host's report", "heap")])


@given(st.binary(min_size=16, max_size=300))
def test_a_report_that_was_overwritten_is_none(data: bytes) -> None:
    channel = Channel()
    assert channel.read() == Report()
    channel.write(report())
    assert channel.read() == report()
    channel._memory[: len(data)] = data
    assert channel.read() in (None, Report(), report())
    channel._memory[:8] = b"\xff" * 8
    assert channel.read() is None
    channel.close()


def test_a_report_is_there_until_the_next_one_is_whole() -> None:
    channel = Channel()
    for number in range(5):
        told = report(said=str(number) * 100)
        channel.write(told)
        assert channel.read() == told
    before = channel.read()
    free = 16 + channel._free * (1 << 20)
    channel._memory[free : free + 1000] = os.urandom(1000)  # a half of a next one
    assert channel.read() == before
    channel.close()


def test_a_single_byte_that_an_attack_writes_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries.os, "urandom", lambda length: b"\x66" * length)
    assert b"\x66" not in canaries._content()


def test_a_handler_that_takes_anothers_place_shows() -> None:
    library = victim.load()
    actions = [lambda *_: None, signal.SIG_IGN, signal.SIG_DFL]
    before = signal.getsignal(signal.SIGUSR2)
    try:
        seen = []
        for action in actions:
            signal.signal(signal.SIGUSR2, action)
            seen.append(victim.handlers(library))
        signal.signal(signal.SIGUSR2, actions[0])
        library.victim_count_signal(int(signal.SIGUSR2))  # one of C's own instead
        seen.append(victim.handlers(library))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(set(seen)) == len(seen)


def test_descriptors_of_a_host_have_numbers_that_no_wall_has(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from harness.attacks.canaries import Canaries\n"
        "made = Canaries(Path(sys.argv[1]), None, {})\n"
        "print(made.descriptor, made.mapped, *made._pipe, made._socket.fileno())"
    )
    command = [sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers = [int(number) for number in done.stdout.split()]
    assert len(numbers) == 5
    assert min(numbers) >= 100, numbers


def test_what_is_forked_while_a_host_waits_is_known_to_be_no_host(tmp_path: Path) -> None:
    script = (
        "import ctypes, os, sys; from pathlib import Path\n"
        "from harness.attacks.canaries import Canaries\n"
        "made = Canaries(Path(sys.argv[1]), None, {})\n"
        "jump = lambda: ctypes.CDLL(None).longjmp(ctypes.c_void_p(made.jump_buffer), 1)\n"
        "forked = made.waiting(os.fork)\n"
        "child = made.waiting(lambda: os.fork() or jump())\n"
        "if forked == 0: os._exit(7)\n"
        "print([os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in (forked, child)])"
    )
    command = [sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[7, 1]"]


def test_what_fails_while_a_host_waits_is_told(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from harness.attacks.canaries import Canaries\n"
        "Canaries(Path(sys.argv[1]), None, {}).waiting(lambda: open('/nowhere'))"
    )
    command = [sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr.splitlines()[-1]


# ---- walls that let everything through ----


def test_an_attack_is_made_on_all_its_targets_whatever_came_of_the_first(
    cases: dict[str, dict[str, Any]],
) -> None:
    verdict = cases["targets"]["verdict"]
    assert [harm["claim"] for harm in verdict["harms"]] == ["heap"]
    assert verdict["said"].startswith("12 targets")


def test_a_host_has_more_time_for_more_targets(cases: dict[str, dict[str, Any]]) -> None:
    assert cases["slow targets"]["verdict"]["outcome"] == "harmless"


def test_without_a_target_nothing_can_be_tried(cases: dict[str, dict[str, Any]]) -> None:
    verdict = cases["no targets"]["verdict"]
    assert verdict["outcome"] == "unavailable"
    assert "gate of libc" in verdict["said"]


def test_a_host_that_fails_before_the_attack_is_an_error(cases: dict[str, dict[str, Any]]) -> None:
    assert "KeyError: 'unknown'" in cases["unknown target"]["error"]


def test_a_host_that_fails_after_the_attack_died_of_it(cases: dict[str, dict[str, Any]]) -> None:
    for case, said in (("host fails", "TypeError: the"), ("host cannot look", "OSError: [Errno")):
        verdict = cases[case]["verdict"]
        assert (verdict["outcome"], len(verdict["harms"])) == ("host-died", 1)
        assert verdict["said"].startswith(said)


def test_only_what_strictness_refuses_with_is_a_refusal(cases: dict[str, dict[str, Any]]) -> None:
    outcomes = {
        case: line["verdict"]["outcome"] for case, line in cases.items() if "verdict" in line
    }
    assert outcomes["not permitted"] == "refused"
    assert outcomes["not permitted, without cause"] == "unavailable"
    assert outcomes["no memory"] == "unavailable"
    assert "Cannot allocate" in cases["no memory"]["verdict"]["said"]


@pytest.mark.parametrize(
    ("case", "claim", "end"),
    [
        ("writes and crashes", "heap", "died"),
        ("writes and is killed", "stack", "died"),
        ("writes and hangs", "heap", "hung"),
    ],
)
def test_what_a_host_lost_is_seen_though_it_is_gone(
    cases: dict[str, dict[str, Any]], case: str, claim: str, end: str
) -> None:
    verdict = cases[case]["verdict"]
    assert verdict["outcome"] == "escaped"
    assert verdict["refuted"] == [claim]
    assert [harm["what"] for harm in verdict["harms"]] == [f"the host {end}", claim]


def test_a_host_that_only_crashes_lost_nothing_else(cases: dict[str, dict[str, Any]]) -> None:
    verdict = cases["crashes"]["verdict"]
    assert (verdict["outcome"], verdict["refuted"]) == ("host-died", [])


def test_a_wall_that_never_works_again_refutes_its_claim_of_recovery(
    cases: dict[str, dict[str, Any]],
) -> None:
    verdict = cases["never works again"]["verdict"]
    assert verdict["refuted"] == ["recovery"]
    # Its own pipes, which it closes, are nothing of the host's.
    assert [harm["claim"] for harm in verdict["harms"]] == ["recovery"]
    assert verdict["outcome"] == "contained"


# ---- what is claimed ----


def test_claims_reach_as_far_as_they_say() -> None:
    wall = Guarantees(heap=True)
    harms = [Harm("heap", "heap"), Harm("file", "syscalls")]

    def refuted(guarantees: Guarantees, means: str) -> list[str]:
        changed = msgspec.structs.replace(ATTACK, means=means)
        return model.refuted(guarantees, changed, harms)

    assert refuted(wall, "memory") == ["heap"]
    assert refuted(wall, "system call") == []
    assert refuted(Guarantees(heap=True, syscalls=True), "system call") == ["heap", "syscalls"]
    assert refuted(wall, "own WRPKRU") == []
    assert refuted(Guarantees(heap=True, strict=True), "own WRPKRU") == ["heap", "strict"]


@pytest.mark.parametrize(
    ("returned", "ends", "seen"),
    [
        (True, ["right", "right"], ("right", "right")),
        (True, ["broken", "right"], ("broken", "right")),
        (True, ["broken", "broken"], ("broken", "broken")),
        (True, ["right", "broken", "right"], ("broken", "right")),
        (True, ["right", "broken", "broken"], ("broken", "broken")),
        (False, ["right", "broken"], ("right", "broken")),
    ],
)
def test_what_an_attack_that_returned_has_corrupted_may_show_later(
    returned: bool, ends: list[str], seen: tuple[str, str]
) -> None:
    left = iter(ends)
    assert later_calls(lambda: next(left), returned=returned) == seen
    assert next(left, None) is None


def test_of_a_race_the_worst_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [Outcome.RECOVERED, Outcome.ESCAPED, Outcome.HARMLESS]
    made = iter(ends)

    def once(host: Host, machine: str, _: object) -> model.Verdict:
        name = host.entry.attack.name
        return model.Verdict(machine, "sandcrust-pipe", name, next(made), [], [], "", 0.1)

    monkeypatch.setattr(supervisor, "_attack", once)
    limits = supervisor.Limits()
    race = Host(catalogue.find("forge-answers"), WALL, {})
    assert supervisor.attack(race, "here", limits).outcome is Outcome.ESCAPED
    assert next(made, None) is None
    made = iter([Outcome.RECOVERED])
    assert supervisor.attack(Host(ENTRY, WALL, {}), "here", limits).outcome is Outcome.RECOVERED
    made = iter([Outcome.UNAVAILABLE, Outcome.HARMLESS, Outcome.UNAVAILABLE])
    assert supervisor.attack(race, "here", limits).outcome is Outcome.HARMLESS
