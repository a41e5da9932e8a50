"""Key figures, measured and compared with the bounds in bounds.toml."""

from __future__ import annotations

import functools
import io
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from backends import native, registry
from backends.placement import Pin
from harness import inputs, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.workloads import Call


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure and how large it may be.

    Attributes:
        name: As in bounds.toml.
        what: What is measured.
        kind: `count` is exact; `ratio` is of wall-clock times.
        bound: The largest value that is fine.
        least: The smallest value that is.
    """

    name: str
    what: str
    kind: Literal["count", "ratio"]
    bound: float
    least: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A figure measured.

    Attributes:
        bound: What it is compared with.
        value: The figure; None when it cannot be measured here.
        problem: Why not, and what would make it; empty otherwise.
    """

    bound: Bound
    value: float | None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the figure was measured and is within its bound."""
        return self.value is not None and self.bound.least <= self.value <= self.bound.bound


class CannotMeasureError(Exception):
    """A figure cannot be measured on this machine: why, and what would make it."""


class BoundsError(Exception):
    """The stored bounds cannot be read; the message says why."""


def bounds() -> list[Bound]:
    """Read the stored bounds.

    Raises:
        BoundsError: The file is damaged.
    """
    return parse(resources.files("harness").joinpath("bounds.toml").read_bytes())


def parse(content: bytes) -> list[Bound]:
    """Read bounds: TOML, a table a figure.

    Raises:
        BoundsError: They are none.
    """
    try:
        entries = msgspec.convert(tomllib.loads(content.decode()), dict[str, dict[str, Any]])
        return [msgspec.convert({**entry, "name": name}, Bound) for name, entry in entries.items()]
    # ValueError: no TOML, no UTF-8, or a field that is none of a bound's.
    except (ValueError, RecursionError) as error:
        raise BoundsError(f"bounds.toml is damaged ({error}). Install the project again") from error


def measure(bound: Bound) -> Outcome:
    """Measure a figure and compare it with its bound."""
    try:
        return Outcome(bound, _FIGURES[bound.name]())
    except (CannotMeasureError, OSError) as error:
        return Outcome(bound, None, str(error))


# ---- counts: the same program with more loops; the difference is the loop's ----

_FEW, _MANY = 200, 1200


def _per_call(count: Callable[[int], int]) -> float:
    return (count(_MANY) - count(_FEW)) / (_MANY - _FEW)


def _standalone(
    mechanism: str,
    loops: int,
    batches: int = 1,
    call: Call | None = None,
    file: Path | None = None,
) -> list[str]:
    """Make the command that counts a call, by default the empty one, whose input is in a file."""
    library, symbol = (call or workloads.find("switch").call()).function
    command = [native.STANDALONE, mechanism, library, symbol, loops, batches, file]
    return [str(part) for part in command if part is not None]


def _run(command: Sequence[str], needs: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        raise CannotMeasureError(f"needs {needs}: sudo apt-get install {needs}")
    done = subprocess.run(  # noqa: S603 - programs of our own choosing
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise CannotMeasureError(f"{command[0]} failed with status {done.returncode}: {last}")
    return done


def _syscalls(mechanism: str) -> Callable[[], float]:
    def count(loops: int) -> int:
        # A line a call on standard error, of all processes; a call that another process
        # interrupts is printed in two lines, of which the second says "resumed".
        options = ["-f", "-qq", "-e", "signal=none"]
        said = _run(["strace", *options, *_standalone(mechanism, loops)], "strace").stderr
        return sum("(" in line and "resumed>" not in line for line in said.splitlines())

    return lambda: _per_call(count)


def _instructions(mechanism: str) -> Callable[[], float]:
    def count(loops: int) -> int:
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        said = _run([*tool, *_standalone(mechanism, loops)], "valgrind").stderr
        collected = re.findall(r"Collected : (\d+)", said)
        if not collected:
            raise CannotMeasureError("valgrind printed no count of instructions")
        return int(collected[-1])

    return lambda: _per_call(count)


# ---- counts in the emulated machine: all of them in one boot ----

# Sizes of content that are counted, and how often: few calls do, since they are all alike.
_SIZES = {1: 500, 1 << 6: 500, 1 << 9: 200, 1 << 12: 100, 1 << 15: 20, 1 << 18: 5, 1 << 21: 3}
_SNAPPY = ("snappy-compress", "snappy-uncompress")
_EMPTY_LOOPS, _FAULTS = 10_000, 200
_PAIRS = {"pairs": 10, "live-1000": 1}  # calls of thousands
_ABOMONATION = "domain-serialised:abomonation-v2-O2"
# What copies, where the published artifact's counts are known.
_COPIED = (
    ("snappy-compress", 1 << 16, 10, ("direct", _ABOMONATION, "pipe")),
    ("snappy-uncompress", 1 << 21, 3, ("pipe",)),
)
_BATCHES, _LONG_BATCHES = 6, 3


def _counted() -> Iterator[tuple[str, str, Call, int]]:
    """List what is counted: mechanism, a name for it, the call, and how often in a batch."""
    for mechanism in ("direct", "domain", "pkru-safe"):
        yield mechanism, "switch", workloads.find("switch").call(), _EMPTY_LOOPS
    for content in ("fault", "return"):
        yield "domain", f"rewind/{content}", workloads.find("rewind").call(content), _FAULTS
    for content, loops in _PAIRS.items():
        call = workloads.find("malloc").call(content)
        for mechanism in ("direct", "domain"):
            yield mechanism, f"malloc/{content}", call, loops
    for image in inputs.PAPER_IMAGES:
        call = workloads.find("png-decode").call(image)
        for mechanism in ("direct", "domain", "domain-view"):
            yield mechanism, f"png-decode/{image}", call, 1
    yield from _counted_snappy()


def _counted_snappy() -> Iterator[tuple[str, str, Call, int]]:
    in_place = ("direct", "domain-view")
    listed = [(name, size, _SIZES[size], in_place) for name in _SNAPPY for size in _SIZES]
    for name, size, loops, mechanisms in (*listed, *_COPIED):
        call = workloads.find(name).call("random", size)
        for mechanism in mechanisms:
            yield mechanism, f"{name}/{size}", call, loops


@functools.cache
def _emulated_counts() -> dict[tuple[str, str], float]:
    """Count instructions a call, by mechanism and what is counted.

    Raises:
        CannotMeasureError: The emulated machine cannot run here.
    """
    from harness import emulated

    if problem := emulated.obstacle():
        raise CannotMeasureError(problem)
    counted = list(_counted())
    with tempfile.TemporaryDirectory(prefix="isobench-bounds-") as name:
        lines = []
        for number, (mechanism, _, call, loops) in enumerate(counted):
            file = Path(name) / f"input-{number}"
            file.write_bytes(call.data)
            batches = _BATCHES if loops > 1 else _LONG_BATCHES
            command = _standalone(mechanism, loops, batches, call, file)
            # Not the first batch, which finds pages as they are; of the others the least: a timer's
            # interrupt in one of few calls costs thousands of instructions each.
            lines.append(f"{shlex.join(command)} | tail -n +2 | sort -n | head -n 1")
        script = Path(name) / "script"
        script.write_text("\n".join(["set -e", *lines, ""]))
        out = io.BytesIO()
        try:
            kernel = emulated.kernel(emulated.KERNELS[0])
            status = emulated.run(
                ["sh", str(script)],
                kernel=kernel,
                icount=True,
                writable=[Path(name)],
                stdout=out,
            )
        except (emulated.EmulationError, emulated.TimeLimitError) as error:
            raise CannotMeasureError(str(error)) from error
    counts = out.getvalue().split()
    if status != 0 or len(counts) != len(counted):
        raise CannotMeasureError(f"counting in the emulated machine ended with status {status}")
    return {
        (mechanism, what): int(count) / loops
        for count, (mechanism, what, _, loops) in zip(counts, counted, strict=True)
    }


def _empty_over_baseline(mechanism: str) -> Callable[[], float]:
    def difference() -> float:
        counts = _emulated_counts()
        return counts[mechanism, "switch"] - counts["direct", "switch"]

    return difference


def _snappy_over_baseline() -> float:
    counts = _emulated_counts()
    return max(
        counts["domain-view", f"{name}/{size}"] - counts["direct", f"{name}/{size}"]
        for name in _SNAPPY
        for size in _SIZES
    )


def _copied(name: str, size: int, mechanism: str) -> Callable[[], float]:
    """Count what a mechanism that copies adds to a call of the baseline."""

    def difference() -> float:
        counts = _emulated_counts()
        return counts[mechanism, f"{name}/{size}"] - counts["direct", f"{name}/{size}"]

    return difference


def _rewind() -> float:
    counts = _emulated_counts()
    return counts["domain", "rewind/fault"] - counts["domain", "rewind/return"]


def _over_glibc(content: str) -> Callable[[], float]:
    """Compare pairs of malloc and free, in instructions."""

    def ratio() -> float:
        counts = _emulated_counts()
        return counts["domain", f"malloc/{content}"] / counts["direct", f"malloc/{content}"]

    return ratio


def _png_over_baseline(images: Sequence[str], *mechanisms: str) -> Callable[[], float]:
    """Take the worst of these images and mechanisms, in instructions."""

    def ratio() -> float:
        counts = _emulated_counts()
        return max(
            counts[mechanism, f"png-decode/{image}"] / counts["direct", f"png-decode/{image}"]
            for image in images
            for mechanism in mechanisms
        )

    return ratio


# ---- ratios: in turns, so that what disturbs one disturbs the others ----

_TURNS = 31


def _fastest(*timers: Callable[[], float]) -> list[float]:
    """Time each by turns and return its least time, in seconds: what noise there is only adds."""
    rounds = [[timer() for timer in timers] for _ in range(_TURNS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _over_floor() -> float:
    empty = workloads.find("switch").call()
    loops = 2000
    with (
        registry.find("pipe-floor").open([empty.function]) as floor,
        registry.find("sandcrust-pipe").open([empty.function]) as pipe,
    ):
        walled, bare = _fastest(_timer(pipe, empty, loops), _timer(floor, empty, loops))
    return walled / bare


def _transfers() -> float:
    size = 1 << 21
    native.keep_buffers_mapped()
    compress, uncompress = (workloads.find(name).call("random", size) for name in _SNAPPY)
    loops = 10
    functions = [compress.function, uncompress.function]
    with (
        registry.find("none").open(functions) as none,
        registry.find("sandcrust-pipe").open(functions) as pipe,
    ):
        walled_un, bare_un, walled_comp, bare_comp = _fastest(
            _timer(pipe, uncompress, loops),
            _timer(none, uncompress, loops),
            _timer(pipe, compress, loops),
            _timer(none, compress, loops),
        )
    return (walled_un - bare_un) / (walled_comp - bare_comp)


def _harness_over_program() -> float:
    empty = workloads.find("switch").call()
    loops = 1_000_000

    def program() -> float:
        said = _run(_standalone("direct", loops, batches=3), "the project's build").stdout
        return min(int(line) for line in said.split()) / 1e9

    # On one core, which the program inherits: the two of a machine may differ.
    pin = Pin("same-core")
    try:
        with registry.find("none").open([empty.function]) as none:
            harness, alone = _fastest(_timer(none, empty, loops), program)
    finally:
        pin.release()
    return harness / alone


def _timer(sandbox: Any, call: Call, loops: int) -> Callable[[], float]:
    return lambda: float(sandbox.timed_loop(call.function, call.data, loops).seconds)


_FIGURES: dict[str, Callable[[], float]] = {
    "syscalls-sandcrust-pipe": _syscalls("pipe"),
    "instructions-none": _instructions("direct"),
    "instructions-mpk": _empty_over_baseline("domain"),
    "instructions-pkru-safe": _empty_over_baseline("pkru-safe"),
    "instructions-mpk-view-snappy": _snappy_over_baseline,
    "instructions-mpk-abomonation": _copied("snappy-compress", 1 << 16, _ABOMONATION),
    "instructions-sandcrust-pipe": _copied("snappy-compress", 1 << 16, "pipe"),
    "instructions-sandcrust-pipe-uncompress": _copied("snappy-uncompress", 1 << 21, "pipe"),
    "instructions-rewind": _rewind,
    "malloc-pairs": _over_glibc("pairs"),
    "malloc-live-1000": _over_glibc("live-1000"),
    "png-mpk-view": _png_over_baseline(inputs.PAPER_IMAGES[1:], "domain-view"),
    "png-mpk": _png_over_baseline(inputs.PAPER_IMAGES[1:], "domain"),
    "png-palette": _png_over_baseline(inputs.PAPER_IMAGES[:1], "domain-view", "domain"),
    "sandcrust-pipe-over-floor": _over_floor,
    "uncompress-over-compress": _transfers,
    "native-loop": _harness_over_program,
}
