"""Good and hostile calls in one sandbox, very many of them: no wrong answer, no growth."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backends import native
from backends.contract import (
    Backend,
    ForeignFunction,
    IsolationError,
    Sandbox,
    ViolationError,
)
from harness.attacks.canaries import Canaries, changed, resident

if TYPE_CHECKING:
    from collections.abc import Callable

_REVERSE = ForeignFunction(native.BENIGN, "benign_reverse")

# Those whose harm is done at once, and that want no more of their host than an address.
_HOSTILE = (
    *("write", "write_null", "read_null", "overflow", "use_after_free", "free_twice"),
    *("corrupt_allocator", "free_target", "smash_stack", "overflow_stack", "wild_output"),
    *("long_output", "inner_output", "null_output", "abort", "exit_at_once", "illegal_instruction"),
)

#: Bytes that a process may grow by, in all, without it being growth: what the interpreter keeps.
GROWTH_MAX = 4 << 20

#: Part of the calls after which growth is counted: by then, everything is there once.
_WARM = 0.1
_SAMPLES = 100
_LENGTH_MAX = 8192


class Growth(msgspec.Struct, frozen=True):
    """What the process had when everything was there once, and in the end.

    Attributes:
        what: Descriptors, threads, child processes, mappings, or bytes of memory.
        before: How many then.
        after: How many in the end.
    """

    what: str
    before: int
    after: int

    @property
    def grows(self) -> bool:
        """Say whether that is too much."""
        if self.what == "bytes":
            return self.after - self.before > GROWTH_MAX
        # A mapping more is the heap's or the interpreter's; one a call would be thousands.
        return self.after - self.before > (8 if self.what == "mappings" else 0)


class Report(msgspec.Struct, kw_only=True):
    """What a soak saw.

    Attributes:
        backend: The wall.
        seed: Of the order of calls; the same seed gives the same calls.
        calls: How many were made.
        good: Of them, good ones.
        wrong: Good ones that were answered wrongly.
        failed: Good ones that were an error with no such reason, or once more when made again.
        spoilt: Good ones that were an error, and right when made again, because a hostile call
            had returned and so left the sandbox with memory of its own corrupted.
        hostile: Hostile ones, by the function and how they ended.
        harmed: Canaries that were changed.
        growth: Of what the process has.
        seconds: What it took.
        first_wrong: What the first wrong or failed answer was.
    """

    backend: str
    seed: int
    calls: int = 0
    good: int = 0
    wrong: int = 0
    failed: int = 0
    spoilt: int = 0
    hostile: dict[str, dict[str, int]] = {}
    harmed: list[str] = []
    growth: list[Growth] = []
    seconds: float = 0.0
    first_wrong: str = ""

    @property
    def passed(self) -> bool:
        """Say whether all was well."""
        grows = any(one.grows for one in self.growth)
        return not (self.wrong or self.failed or self.harmed or grows)


class Soak(msgspec.Struct, frozen=True):
    """What is done.

    Attributes:
        backend: A wall that claims recovery.
        calls: How many calls.
        hostile: Which part of them is hostile, between 0 and 1.
        seed: Of the order of calls.
    """

    backend: Backend
    calls: int
    hostile: float
    seed: int

    def run(self, progress: Callable[[int], None]) -> Report:
        """Make the calls; Ctrl-C ends them early.

        Args:
            progress: Is called now and then with how many are done.

        Raises:
            OSError: The sandbox cannot be opened.
        """
        report = Report(backend=self.backend.name, seed=self.seed)
        begin = time.monotonic()
        library = native.COMPILED / "libattacks.so"
        functions = {name: ForeignFunction(library, f"attack_{name}") for name in _HOSTILE}
        here = Path.cwd()
        with tempfile.TemporaryDirectory(prefix="isobench-") as name:
            canaries = Canaries(Path(name), None, {})
            try:
                with self.backend.open([_REVERSE, *functions.values()]) as sandbox:
                    self._soak(report, sandbox, functions, canaries, progress)
            finally:
                os.chdir(here)
        report.seconds = round(time.monotonic() - begin, 1)
        return report

    def _soak(
        self,
        report: Report,
        sandbox: Sandbox,
        functions: dict[str, ForeignFunction],
        canaries: Canaries,
        progress: Callable[[int], None],
    ) -> None:
        rng = random.Random(self.seed)  # noqa: S311 - an order of calls
        target = struct.pack("=QQ", canaries.heap, 0)
        outcomes: dict[str, Counter[str]] = {name: Counter() for name in functions}
        names = list(functions)
        memory: list[int] = []
        canaries.late()
        corrupted = False  # maybe: a hostile call has returned since memory was last discarded
        before, early = _look(sandbox, canaries)
        with contextlib.suppress(KeyboardInterrupt):
            for number in range(self.calls):
                if number == int(self.calls * _WARM):
                    _, early = _look(sandbox, canaries)
                if number % max(self.calls // _SAMPLES, 1) == 0:
                    memory.append(resident())
                    progress(number)
                if rng.random() < self.hostile:
                    name = names[rng.randrange(len(names))]
                    ended = _hostile(sandbox, functions[name], target)
                    outcomes[name][ended] += 1
                    corrupted = ended != "violation"
                else:
                    corrupted = _good(sandbox, rng, report, corrupted=corrupted)
                report.calls += 1
        report.hostile = {name: dict(counter) for name, counter in outcomes.items()}
        after, late = _look(sandbox, canaries)
        report.harmed = changed(before, after)
        report.growth = [Growth(what, early[what], late[what]) for what in early]
        # It goes up and down with large results: what counts is the least that is needed.
        tenth = max(len(memory) // 10, 1)
        least = min(*memory[-tenth:], resident())
        report.growth.append(Growth("bytes", min(memory[tenth : 2 * tenth] or memory), least))


def _hostile(sandbox: Sandbox, function: ForeignFunction, target: bytes) -> str:
    try:
        sandbox.call(function, target)
    except ViolationError:
        return "violation"
    except IsolationError:
        return "error"
    return "returned"


def _good(sandbox: Sandbox, rng: random.Random, report: Report, *, corrupted: bool) -> bool:
    """Make a good call; say whether memory of the sandbox's may be corrupted after it."""
    data = rng.randbytes(rng.randrange(_LENGTH_MAX))
    report.good += 1
    answer = _answer(sandbox, data)
    if answer == "right":
        return corrupted
    if answer.startswith("wrong"):
        report.wrong += 1
    elif corrupted and _answer(sandbox, data) == "right":
        report.spoilt += 1
        return False
    else:
        report.failed += 1
    report.first_wrong = report.first_wrong or (
        f"call {report.calls}, of {len(data)} bytes: {answer}"
    )
    return False


def _answer(sandbox: Sandbox, data: bytes) -> str:
    try:
        answer = bytes(sandbox.call(_REVERSE, data))
    except IsolationError as error:
        return f"{type(error).__name__}: {error}"
    return "right" if answer == data[::-1] else f"wrong: {answer[:100]!r}"


def _look(sandbox: Sandbox, canaries: Canaries) -> tuple[dict[str, str], dict[str, int]]:
    """Look at the canaries and at what the process has, with what runs the sandbox there."""
    for _ in range(2):
        with contextlib.suppress(IsolationError):
            sandbox.call(_REVERSE, b"abc")
    return canaries.observe(), _had()


def _had() -> dict[str, int]:
    """Count what this process has."""
    task = Path("/proc/self/task")
    children = (task / str(os.getpid()) / "children").read_text(encoding="ascii")
    with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123 - of the system
        mappings = sum(1 for _ in maps)
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(task.iterdir())),
        "child processes": len(children.split()),
        "mappings": mappings,
    }
