"""All attacks on all walls, here and in the emulated machine at once."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

from backends import registry
from harness import emulated, host
from harness.attacks.model import Absent, Machine, Matrix, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backends.contract import Backend
    from harness.attacks.catalogue import Entry

HERE = "here"

#: How much longer things take in the emulated machine, when the host is busy with others, too.
_SLOWER = 10.0

# Figure 4's walls are the same but for how the codec is compiled: Attack them by name.
_LEVEL = re.compile(r"-O[013]$")


class Part(NamedTuple):
    """What one machine does: its name, its kernel's series (empty: this one), the walls."""

    machine: str
    series: str
    backends: list[str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is attacked where, by what.

    Attributes:
        parts: One a machine. `none` is attacked on each.
        attacks: By what.
        absent: Walls that are attacked nowhere.
        calls: How many calls the control makes that alternates good and bad ones.
    """

    parts: list[Part]
    attacks: list[Entry]
    absent: list[Absent]
    calls: int

    @property
    def total(self) -> int:
        """How many verdicts there will be."""
        walls = sum(1 + sum(name != "none" for name in part.backends) for part in self.parts)
        return walls * len(self.attacks)


def plan(
    backends: Sequence[Backend], attacks: Sequence[Entry], *, kernels: Sequence[str], calls: int
) -> Plan:
    """Decide what is attacked where.

    Args:
        backends: The walls.
        attacks: By what.
        kernels: Of the emulated machine; none: nothing is emulated.
        calls: See `Plan`.
    """
    here = [b.name for b in backends if b.kind != "reference" and b.availability().available]
    parts = [Part(HERE, "", here)] if here else []
    absent: list[Absent] = []
    emulable: list[Backend] = []
    for backend in backends:
        availability = backend.availability()
        if backend.kind == "reference":
            continue  # no wall, and it runs no foreign function
        if not availability.available and availability.emulated and kernels:
            emulable.append(backend)
        elif not availability.available:
            absent.append(Absent(backend.name, availability.reason, availability.remedy))
    for number, series in enumerate(kernels):
        # Kernels differ in how they deliver signals, which is nothing to codecs.
        names = [backend.name for backend in emulable if number == 0 or not backend.codec]
        if names:
            parts.append(Part(f"emulated {series}", series, names))
    return Plan(parts, list(attacks), absent, calls)


def standard(backends: Sequence[Backend]) -> tuple[list[Backend], list[Absent]]:
    """Choose the walls that are attacked when none is named; say why the others are not."""
    chosen = [backend for backend in backends if not _LEVEL.search(backend.name)]
    absent = [
        Absent(
            backend.name,
            "Its wall is that of the same name without -O…, its codec compiled otherwise",
            "`isobench attack --backend NAME` attacks it",
        )
        for backend in backends
        if _LEVEL.search(backend.name)
    ]
    return chosen, absent


def run(plan: Plan, progress: Callable[[Verdict], None]) -> Matrix:
    """Attack.

    Args:
        plan: What, where.
        progress: Is called with every verdict as it comes.

    Returns:
        The matrix; after Ctrl-C, or if a machine did not do its part, it is not `complete`.

    Raises:
        OSError: One could not be started.
    """
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    verdicts: list[Verdict] = []
    complete = False
    seconds: dict[str, float] = {}
    failures: dict[str, str] = {}
    with contextlib.suppress(KeyboardInterrupt):
        for verdict in _verdicts(plan, seconds, failures):
            verdicts.append(verdict)
            progress(verdict)
        complete = not failures
    order = {entry.attack.name: number for number, entry in enumerate(plan.attacks)}
    walls = [(part.machine, name) for part in plan.parts for name in ("none", *part.backends)]
    verdicts.sort(key=lambda v: (walls.index((v.machine, v.backend)), order[v.attack]))
    names = {verdict.backend for verdict in verdicts}
    return Matrix(
        started=started,
        machines=[_machine(part, seconds.get(part.machine, 0.0)) for part in plan.parts],
        attacks=[entry.attack for entry in plan.attacks],
        guarantees={
            backend.name: dataclasses.asdict(backend.guarantees)
            for backend in registry.all_backends()
            if backend.name in names
        },
        verdicts=verdicts,
        absent=plan.absent,
        complete=complete,
        failures=failures,
    )


def _machine(part: Part, seconds: float) -> Machine:
    if part.series:
        release = emulated.kernel(part.series).release
        return Machine(part.machine, release, "QEMU's, with protection keys", round(seconds, 1))
    facts = host.facts()
    return Machine(part.machine, str(facts["kernel"]), str(facts["host"]), round(seconds, 1))


# ---- supervisors ----


def _command(part: Part, plan: Plan) -> list[str]:
    arguments = ["--machine", part.machine, "--calls", str(plan.calls)]
    for name in part.backends:
        arguments += ["--backend", name]
    for entry in plan.attacks:
        arguments += ["--attack", entry.attack.name]
    supervisor = [sys.executable, "-m", "harness.attacks.supervisor", *arguments]
    if not part.series:
        return supervisor
    limit = ["--kernel", part.series, "--timeout", "7200"]
    slower = ["--slower", str(_SLOWER)]
    return [sys.executable, "-m", "harness", "emulate", *limit, "--", *supervisor, *slower]


def _verdicts(plan: Plan, seconds: dict[str, float], failures: dict[str, str]) -> Iterator[Verdict]:
    """Run all machines at once; yield verdicts as they come.

    Args:
        plan: What is attacked where.
        seconds: What each machine took; filled in when it is done.
        failures: What those said that did not do their part; likewise.
    """
    lines: queue.Queue[tuple[Part, bytes]] = queue.Queue()
    with contextlib.ExitStack() as stack:
        running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        begin = time.monotonic()
        for part in plan.parts:
            said: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            process = stack.enter_context(_started(_command(part, plan), said))
            running[part.machine] = process, said
            threading.Thread(target=_pass_on, args=(part, process, lines), daemon=True).start()
        while running:
            part, line = lines.get()
            if line:
                yield msgspec.json.decode(line, type=Verdict)
                continue
            process, said = running.pop(part.machine)
            seconds[part.machine] = time.monotonic() - begin
            if process.wait() != 0:
                said.seek(0)
                failures[part.machine] = said.read().decode(errors="replace").strip()


@contextlib.contextmanager
def _started(command: Sequence[str], said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    # Not in this one's process group: it is told of Ctrl-C once, and by this one.
    process = subprocess.Popen(  # noqa: S603 - this Python
        command, stdout=subprocess.PIPE, stderr=said, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def _pass_on(
    part: Part, process: subprocess.Popen[bytes], lines: queue.Queue[tuple[Part, bytes]]
) -> None:
    """Pass a supervisor's lines on, and in the end an empty one."""
    if process.stdout is not None:
        with process.stdout as stdout:
            for line in stdout:
                lines.put((part, line))
    lines.put((part, b""))


def new_folder(parent: Path, name: str = "") -> Path:
    """Make a folder for a matrix.

    Raises:
        OSError: It cannot be made, or one of this name exists.
    """
    folder = parent / (name or f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-attacks")
    folder.mkdir(parents=True)
    return folder
