"""Runs hosts, one a wall and attack, and decides from outside what happened.

`python -m harness.attacks.supervisor --machine here --backend mpk` writes a line of JSON for each:
it also runs in the emulated machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import os
import platform
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from backends import native, registry
from harness import gadgets
from harness.attacks import canaries, witness
from harness.attacks.catalogue import LIBC_GATE, RUNTIME_GATES, entries, find
from harness.attacks.host import Channel, Host, Report
from harness.attacks.model import Harm, Outcome, Verdict, refuted

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What an attack returns that this machine refuses whatever the wall: UNABLE in attack.h.
_UNABLE = 77

_PR_SET_CHILD_SUBREAPER, _PR_SET_PDEATHSIG = 36, 1

#: How often an attack is made that is a race.
_RACES = 3

#: Seconds for what a host's end ends as well, such as a process wall's process, to end.
_GRACE = 1.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds.

    Attributes:
        call: For a call, where the wall can limit it.
        host: For a host.
        unlimited: For one whose wall cannot limit a call: attacks that hang will hang.
        long: For one with 10,000 calls.
    """

    call: float = 0.3
    host: float = 5.0
    unlimited: float = 1.0
    long: float = 120.0

    def of(self, victim: Host) -> float:
        """Choose a host's limit, which is for an attack on one target and grows with them."""
        if victim.entry.attack.benign:
            return self.long
        limited = victim.backend.guarantees.time_limit
        return (self.host if limited else self.unlimited) + (victim.targets - 1) * self.call

    def slower(self, factor: float) -> Limits:
        """Return the limits for a machine that is so much slower."""
        # Not what attacks that hang are waited for, which is most of the time that there is.
        return Limits(
            self.call * factor, self.host * factor, 3 * self.unlimited, self.long * factor
        )


def attack(victim: Host, machine: str, limits: Limits) -> Verdict:
    """Attack a wall, if the attack is a race a few times, and decide what happened at worst."""
    tries = _RACES if victim.entry.races else 1
    return max((_attack(victim, machine, limits) for _ in range(tries)), key=_badness)


def _badness(verdict: Verdict) -> tuple[bool, int]:
    if verdict.outcome is Outcome.UNAVAILABLE:  # nothing was tried
        return False, -1
    return bool(verdict.refuted), list(Outcome).index(verdict.outcome)


def _attack(victim: Host, machine: str, limits: Limits) -> Verdict:
    """Attack a wall in a process of its own, and decide what happened."""
    entry, backend = victim.entry, victim.backend
    begin = time.monotonic()
    channel = Channel()
    folder = Path(tempfile.mkdtemp(prefix="isobench-"))
    try:
        process = os.fork()
        if process == 0:
            _be_host(victim, channel, folder)
        status = _wait(process, limits.of(victim))
        report = channel.read()
        lost = _lost(report) if report else None
        left = _end_descendants(waiting=status == 0)
    finally:
        _end_descendants(waiting=False)  # after Ctrl-C there are
        channel.close()
        shutil.rmtree(folder, ignore_errors=True)
    outcome, harms, said = decide(victim, report, status, left, lost)
    return Verdict(
        machine=machine,
        backend=backend.name,
        attack=entry.attack.name,
        outcome=outcome,
        harms=harms,
        refuted=refuted(backend.guarantees, entry.attack, harms),
        said=said,
        seconds=round(time.monotonic() - begin, 3),
    )


def decide(
    victim: Host,
    report: Report | None,
    status: int | None,
    left: int,
    lost: list[str] | None = None,
) -> tuple[Outcome, list[Harm], str]:
    """Decide what happened.

    Args:
        victim: What the host was to do.
        report: What the host told; None: what it told was overwritten.
        status: How it ended, as waitpid says; None: it did not.
        left: How many processes it left behind.
        lost: Canaries in its memory that are not as they were, if it did not come to its end; None:
            nobody knows.

    Returns:
        The outcome, what was harmed, and what the caller got.

    Raises:
        RuntimeError: The host failed before the attack, which says nothing about the wall.
    """
    if report is None:  # memory of the host's that it writes to just before the attack
        return Outcome.ESCAPED, [Harm("the host's report", "heap")], _ending(status)
    if report.refused:
        # An error of another kind may have any reason.
        strict = victim.entry.own_code and victim.backend.guarantees.strict
        refused = strict and report.error == errno.EPERM
        return Outcome.REFUSED if refused else Outcome.UNAVAILABLE, [], report.refused
    if _not_attacked(report, status):
        raise RuntimeError(
            f"the host of {victim.entry.attack.name} behind {victim.backend.name} failed by "
            f"itself:\n{report.failed or report}"
        )
    if not report.done:
        return _ended(report, status, left, lost)
    harms = _harms(report, left, by_system=victim.entry.attack.means == "system call")
    # An attack that has worked where there is no wall is able to, and was kept from it.
    unable = report.code == _UNABLE and victim.backend.kind == "baseline"
    return _outcome(report, harms, unable=unable), harms, report.said


def _not_attacked(report: Report, status: int | None) -> bool:
    if report.done:
        return not report.called
    if report.failed:
        return not report.attacked
    return status is not None and not report.opened


def _ended(
    report: Report, status: int | None, left: int, lost: list[str] | None
) -> tuple[Outcome, list[Harm], str]:
    """Decide about a host that did not come to its end."""
    if status is None:
        outcome, end = Outcome.HUNG, Harm("the host hung", "time_limit", "ended")
    else:
        outcome, end = Outcome.HOST_DIED, Harm("the host died", "recovery", "ended")
    harms = [end, *(Harm(name, canaries.CLAIMS[name]) for name in lost or ())]
    if left:
        harms.append(Harm(f"processes left behind: {left}", "syscalls"))
    said = report.failed.strip().rpartition("\n")[2] or _ending(status)
    if lost is None:
        said += "; what it harmed before is not known"
    return Outcome.ESCAPED if len(harms) > 1 else outcome, harms, said


def _harms(report: Report, left: int, *, by_system: bool) -> list[Harm]:
    names = canaries.changed(report.before, report.after)
    harms = [Harm(name, canaries.CLAIMS[name]) for name in names]
    for name in report.told:
        if name == "secret file":  # which the system was made to read
            harms.append(Harm("secret file was read", "syscalls"))
        else:
            claim = "secrets" if name == "secret" else "confidentiality"
            harms.append(Harm(f"{name} was read", claim, "read"))
            if by_system:
                harms.append(Harm(f"{name} was read", "syscalls", "read"))
    if left:
        harms.append(Harm(f"processes left behind: {left}", "syscalls"))
    later = (report.next, report.second)
    if any(call.startswith("wrong") for call in later) or report.called == "ArithmeticError":
        harms.append(Harm("a later call was wrong", "recovery"))
    # A call that returned may have corrupted what is the sandbox's own: the next one may fail.
    elif report.second != "right":
        harms.append(Harm(f"no later call worked: {report.second}", "recovery", "ended"))
    elif report.called == "violation" and report.next != "right":
        harms.append(Harm(f"the next call failed: {report.next}", "recovery", "ended"))
    return harms


def _outcome(report: Report, harms: list[Harm], *, unable: bool) -> Outcome:
    """Decide about a host that came to its end."""
    how = {harm.how for harm in harms}
    if "changed" in how:
        return Outcome.ESCAPED
    if "read" in how:
        return Outcome.DISCLOSED
    if "ended" in how or report.next != "right":
        return Outcome.CONTAINED
    if unable:
        return Outcome.UNAVAILABLE
    harmless = report.called in ("returned", "error")
    return Outcome.HARMLESS if harmless else Outcome.RECOVERED


def _ending(status: int | None) -> str:
    if status is None:
        return "nothing"
    if os.WIFSIGNALED(status):
        return f"the host died of {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the host ended with status {os.waitstatus_to_exitcode(status)}"


# ---- processes ----


def _be_host(victim: Host, channel: Channel, folder: Path) -> NoReturn:
    try:
        # Not a session of its own: a stop signal would not stop a process without a terminal's
        # session around it.
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        victim.run(channel, folder)
    finally:
        os._exit(0)


def _wait(process: int, limit: float) -> int | None:
    """Wait for a process and collect its status; None: it did not end in time and was ended."""
    handle = os.pidfd_open(process)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        ended = bool(poll.poll(limit * 1000))
        if not ended:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        return status if ended else None
    finally:
        os.close(handle)


def _lost(report: Report) -> list[str] | None:
    """List the canaries that were changed in a host that has ended; end its witness."""
    if report.witness not in _children():  # an attack may have written any number
        return None
    lost = witness.changed(report.witness, report.memory)
    os.kill(report.witness, signal.SIGKILL)
    os.waitpid(report.witness, 0)
    return lost


def _end_descendants(*, waiting: bool) -> int:
    """End what a host has left behind, which is this process's by now; return how many.

    Args:
        waiting: Give them time to end by themselves; those of a host that died are not counted.
    """
    deadline = time.monotonic() + (_GRACE if waiting else 0.0)
    running = _children()
    while running and time.monotonic() < deadline:
        time.sleep(0.01)
        running = _children()
    left = len(running) if waiting else 0
    while running:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, 0)
        running = _children()
    return left


def _children() -> list[int]:
    """Collect what has ended; list the rest."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(process) for process in listed.split()]


# ---- instructions that write PKRU ----


def gates() -> dict[str, list[int]]:
    """Find, in this process and so in its hosts, the instructions that attacks jump to."""
    return {
        RUNTIME_GATES: list(_gates_of("libisolation")),
        LIBC_GATE: list(_gates_of("libc.so"))[:1],
    }


def _gates_of(name: str) -> Iterator[int]:
    if platform.machine() not in ("x86_64", "AMD64"):
        return
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        mapped = [line.split(maxsplit=5) for line in maps if "/" in line]
    for begin, _, offset, *_, path in mapped:
        if Path(path.strip()).name.startswith(name) and int(offset, 16) == 0:
            for gadget in gadgets.scan(Path(path.strip())):
                if gadget.kind == "WRPKRU":
                    yield int(begin.split("-")[0], 16) + gadget.address
            return


# ---- as a program ----


@click.command()
@click.option("--machine", required=True)
@click.option("--backend", "names", multiple=True, required=True)
@click.option("--attack", "attacks", multiple=True)
@click.option("--slower", type=float, default=1.0)
@click.option("--calls", type=int, default=10_000)
def main(
    machine: str, names: tuple[str, ...], attacks: tuple[str, ...], slower: float, calls: int
) -> None:
    """Attack walls here; write a line for each verdict."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    native.keep_buffers_mapped()
    limits = Limits().slower(slower)
    found = gates()
    chosen = [find(name) for name in attacks] or entries()
    unable: dict[str, Verdict] = {}
    for name in ("none", *(name for name in names if name != "none")):
        for entry in chosen:
            if entry.attack.name in unable:
                verdict = msgspec.structs.replace(unable[entry.attack.name], backend=name)
            else:
                victim = Host(entry, registry.find(name), found, limits.call, calls)
                verdict = attack(victim, machine, limits)
            if name == "none" and verdict.outcome is Outcome.UNAVAILABLE:
                unable[entry.attack.name] = verdict
            sys.stdout.write(msgspec.json.encode(verdict).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
