"""Which cells are measured, how rigorously, and how long it will take."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Literal

import msgspec

from backends import names, registry
from backends.contract import Modelled
from harness import estimate, inputs, pyperf_options, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backends.contract import Backend

Level = Literal["native", "python"]
Provenance = Literal["measured", "emulated", "modelled"]


class PlanError(Exception):
    """The plan that was asked for makes no sense; the message says what to do."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One backend on one workload and size: one pyperf benchmark.

    Attributes:
        backend: Its name.
        workload: Its name.
        content: What the input is made of; empty where there is no input.
        size: Bytes of content; 0 where there is none.
        level: Whether the timed loop is C or Python.
        provenance: Whether it is timed on this machine, or its instructions are counted on the
            emulated one, or it is timed here but for an instruction that the CPU lacks.
    """

    backend: str
    workload: str
    content: str = ""
    size: int = 0
    level: Level = "native"
    provenance: Provenance = "measured"

    @property
    def name(self) -> str:
        """The name of the benchmark, unique in a run."""
        parts = [self.workload, self.content, str(self.size or ""), self.backend]
        name = "/".join(part for part in parts if part)
        if self.level != "native":
            name += f"@{self.level}"
        return name if self.provenance == "measured" else f"{name}@{self.provenance}"


class Unavailable(msgspec.Struct, frozen=True):
    """A backend that cannot be measured here, why, and what would make it.

    Attributes:
        backend: Its name.
        reason: Why not.
        remedy: What would make it.
        workload: The one workload that this is about; empty: all of them.
    """

    backend: str
    reason: str
    remedy: str
    workload: str = ""


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A size of plan that has a name.

    Attributes:
        summary: One sentence.
        contents: Of all workloads: each takes those that are its.
        sizes: Bytes, for the workloads whose contents come in any size.
        pyperf: Options of pyperf.
        copied: Of the contents that come in any size, those on which codecs are measured: what
            copying costs, they do not change.
    """

    summary: str
    contents: tuple[str, ...]
    sizes: tuple[int, ...]
    pyperf: tuple[str, ...]
    copied: tuple[str, ...] = inputs.CONTENTS


def _options(processes: int, values: int, min_time: float) -> tuple[str, ...]:
    return (
        f"--processes={processes}",
        f"--values={values}",
        "--warmups=1",
        f"--min-time={min_time}",
    )


PRESETS = {
    "smoke": Preset(
        summary="Does it work? About two minutes; its numbers are rough.",
        contents=("random", "palette-256x256", "pairs", "fault", "return"),
        sizes=(1 << 16,),
        pyperf=_options(2, 2, 0.005),
        copied=(),
    ),
    "quick": Preset(
        summary="Every figure with a few sizes, in a few minutes.",
        contents=tuple(c for c in workloads.CONTENTS if c not in inputs.SHIPPED_IMAGES),
        sizes=(1, *(1 << power for power in (8, 12, 16, 21))),
        pyperf=_options(3, 3, 0.01),
        copied=("random",),
    ),
    "paper": Preset(
        summary="All sizes of the paper, rigorously: hours.",
        contents=workloads.CONTENTS,
        sizes=workloads.PAPER_SIZES,
        pyperf=("--rigorous",),
    ),
}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does.

    Attributes:
        preset: Its name; empty when cells were picked otherwise.
        cells: In the order in which they run.
        unavailable: Backends that were asked for and cannot be measured here.
        pyperf: Options of pyperf, the preset's and then the user's.
    """

    preset: str
    cells: tuple[Cell, ...]
    unavailable: tuple[Unavailable, ...]
    pyperf: tuple[str, ...]

    def seconds(self, cell: Cell) -> float:
        """Estimate how long a cell takes."""
        return estimate.seconds(cell, pyperf_options.parse(self.pyperf))

    def total_seconds(self) -> float:
        """Estimate how long the run takes."""
        return sum(self.seconds(cell) for cell in self.cells)


def make_plan(  # noqa: PLR0913 - each is an axis of the plan
    preset: str,
    *,
    backends: Sequence[str] = (),
    workload_names: Sequence[str] = (),
    contents: Sequence[str] = (),
    sizes: Sequence[int] = (),
    level: Level | None = None,
    pyperf: Sequence[str] = (),
    emulate: bool | None = None,
    modelled: bool = True,
    obstacle: Callable[[], str] = str,
) -> Plan:
    """Make a plan from a preset; what is given besides narrows or replaces what the preset says.

    Args:
        preset: A key of PRESETS.
        backends: Names; empty for all standard ones that are installed.
        workload_names: Names; empty for all.
        contents: Names; empty for the preset's. Workloads that have none of these are left out.
        sizes: Bytes; empty for the preset's.
        level: The level of every cell; None for the best that each backend offers.
        pyperf: Options of pyperf, which come after the preset's.
        emulate: Count instructions in the emulated machine: of backends that work there and not
            here, and of those they are compared with (None); of all that can (True); of none.
        modelled: Model backends that cannot be measured here and can be modelled.
        obstacle: Tells why the emulated machine cannot run here; asked if it would be used.

    Raises:
        PlanError: A name is unknown, an option is not pyperf's or does not apply to what was
            chosen, or nothing is left to measure.
    """
    if preset not in PRESETS:
        raise PlanError(names.unknown("preset", preset, list(PRESETS)))
    chosen = PRESETS[preset]
    for size in sizes:
        if not 1 <= size <= 1 << 30:
            raise PlanError(f"size {size}: must be between 1 and {1 << 30} bytes")
    try:
        wanted = [registry.find(name) for name in dict.fromkeys(backends)] or list(_standard())
        tasks = [workloads.find(name) for name in workload_names] or list(workloads.WORKLOADS)
    except LookupError as error:
        raise PlanError(str(error)) from error
    _require_applicable(tasks, bool(workload_names), contents, sizes)
    if emulate and level == "python":
        raise PlanError("--emulate counts loops in C, and --level python has none; leave out one")

    options = (*chosen.pyperf, *pyperf)
    try:
        arguments = pyperf_options.parse(options)
    except pyperf_options.OptionError as error:
        raise PlanError(str(error)) from error
    with _placed_as_workers(arguments.affinity):
        here, unavailable = _split(wanted)
    models: list[Backend] = []
    if modelled and level != "python":
        models = [b for b in wanted if b.availability().modelled and isinstance(b, Modelled)]
    counted: list[Backend] = []
    if emulate is not False and level != "python":
        counted, unavailable = _emulated(
            wanted, here, unavailable, always=emulate is True, obstacle=obstacle
        )
    copied = contents or chosen.copied
    inputs_of = {
        workload: list(_inputs(workload, contents or chosen.contents, sizes or chosen.sizes))
        for workload in dict.fromkeys(tasks)
    }
    cells = [
        cell
        for workload, pairs in inputs_of.items()
        for content, size in pairs
        for cell in _cells(here, workload, content, size, level=level, copied=copied)
    ]
    cells += [
        msgspec.structs.replace(cell, provenance="modelled")
        for workload, pairs in inputs_of.items()
        if workload.modelled
        for content, size in pairs
        for cell in _cells(models, workload, content, size, level="native", copied=copied)
    ]
    cells += [
        msgspec.structs.replace(cell, provenance="emulated")
        for workload, pairs in inputs_of.items()
        for content, size in pairs
        for cell in _cells(counted, workload, content, size, level="native", copied=copied)
    ]
    run = [backend for backend in wanted if backend in here or backend in counted]
    unavailable += [_would_die(w, b) for w in inputs_of for b in run if _dies(w, b)]
    if not cells:
        why = "; ".join(f"{u.backend}: {u.reason}" for u in unavailable)
        raise PlanError(f"nothing to measure: no chosen backend runs a chosen workload here. {why}")
    _require_used(backends, pyperf, cells, unavailable, emulate=emulate is True)
    return Plan(
        preset=preset, cells=tuple(cells), unavailable=tuple(unavailable), pyperf=tuple(options)
    )


def _standard() -> Iterator[Backend]:
    """Take the backends that are measured when none is named, with the workloads that they are."""
    for backend in registry.all_backends():
        if backend.standard is None:
            yield backend
        elif backend.standard:
            yield dataclasses.replace(backend, workloads=backend.standard)


@contextlib.contextmanager
def _placed_as_workers(affinity: str | None) -> Iterator[None]:
    """Have, for a while, the CPUs that pyperf's workers will have: some walls need two.

    Raises:
        PlanError: They are not among this process's.
    """
    if not affinity:
        yield
        return
    from pyperf._cpu_utils import parse_cpu_list

    before = os.sched_getaffinity(0)
    try:
        wanted = set(parse_cpu_list(affinity))
    except ValueError:
        wanted = set()
    if not wanted or not wanted <= before:
        allowed = ",".join(str(cpu) for cpu in sorted(before))
        raise PlanError(f"--affinity={affinity}: must be a list out of the CPUs {allowed}")
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _split(backends: Sequence[Backend]) -> tuple[list[Backend], list[Unavailable]]:
    here: list[Backend] = []
    unavailable: list[Unavailable] = []
    for backend in backends:
        availability = backend.availability()
        if availability.available:
            here.append(backend)
        else:
            unavailable.append(Unavailable(backend.name, availability.reason, availability.remedy))
    return here, unavailable


def _emulated(
    wanted: Sequence[Backend],
    here: Sequence[Backend],
    unavailable: list[Unavailable],
    *,
    always: bool,
    obstacle: Callable[[], str],
) -> tuple[list[Backend], list[Unavailable]]:
    """Pick the backends for the emulated machine; return them and those that remain unavailable.

    That machine has one CPU. Variants of the baseline and references are about this one's time.

    Raises:
        PlanError: It is asked for and cannot run here.
    """
    only_there = {b.name for b in wanted if b.availability().emulated}
    if not only_there and not always:
        return [], unavailable
    if why_not := obstacle():
        if always:
            raise PlanError(f"--emulate: {why_not}")
        return [], [
            Unavailable(missing.backend, f"{missing.reason}; and {why_not}", missing.remedy)
            if missing.backend in only_there
            else missing
            for missing in unavailable
        ]
    comparable = {
        b.name
        for b in here
        if b.native_loop
        and b.kind != "reference"
        and not b.default_allocator
        and b.options.get("placement") != "other-core"
    }
    chosen = [b for b in wanted if b.name in only_there | comparable]
    return chosen, [missing for missing in unavailable if missing.backend not in only_there]


def _require_applicable(
    tasks: Sequence[workloads.Workload],
    named: bool,  # noqa: FBT001 - whether the user did
    contents: Sequence[str],
    sizes: Sequence[int],
) -> None:
    """Refuse contents and sizes that would be passed over.

    Raises:
        PlanError: A content is no chosen workload's, a workload that was named has none of them,
            or there are sizes and none of what is chosen comes in any size.
    """
    known = dict.fromkeys(name for workload in tasks for name in workload.contents)
    whose = f" of {', '.join(w.name for w in tasks)}" if named else ""
    for content in contents:
        if content not in known:
            there_are = f"there are: {', '.join(known)}" if known else "it takes none"
            raise PlanError(f"no content {content!r}{whose}; {there_are}")
    for workload in tasks if named and contents else ():
        if workload.contents and not set(contents) & set(workload.contents):
            raise PlanError(
                f"no content is named for {workload.name}; there are: "
                f"{', '.join(workload.contents)}"
            )
    sized = [workload for workload in tasks if workload.sized]
    if contents:
        whose = f" {', '.join(contents)}"
        sized = [workload for workload in sized if set(contents) & set(workload.contents)]
    if sizes and not sized:
        takers = ", ".join(w.name for w in workloads.WORKLOADS if w.sized)
        raise PlanError(f"size {sizes[0]}: the contents{whose} have their own; for: {takers}")


def _require_used(
    backends: Sequence[str],
    pyperf: Sequence[str],
    cells: Sequence[Cell],
    unavailable: Sequence[Unavailable],
    *,
    emulate: bool,
) -> None:
    """Refuse what was asked for by name and has no part in the plan.

    Raises:
        PlanError: A backend has no cell and no reason, nothing is counted that should be, or
            there are options of pyperf and nothing is timed.
    """
    idle = set(backends) - {c.backend for c in cells} - {u.backend for u in unavailable}
    if idle:
        name = min(idle)
        raise PlanError(
            f"backend {name}: nothing of what was chosen is measured with it. Leave it out, or see "
            f"what it runs: `isobench plan --backend {name}`"
        )
    counted = [cell.provenance == "emulated" for cell in cells]
    if emulate and not any(counted):
        raise PlanError("--emulate: no chosen backend can be counted there; leave it out")
    if pyperf and all(counted):
        raise PlanError(
            f"options of pyperf ({' '.join(pyperf)}): all that was chosen is counted in the "
            "emulated machine, where they mean nothing; leave them out"
        )


def _inputs(
    workload: workloads.Workload, contents: Sequence[str], sizes: Sequence[int]
) -> Iterator[tuple[str, int]]:
    if not workload.contents:
        yield "", 0
        return
    for content in dict.fromkeys(contents):
        if content not in workload.contents:
            continue
        for size in sorted(set(sizes)) if workload.sized else (workload.size(content),):
            yield content, size


def _dies(workload: workloads.Workload, backend: Backend) -> bool:
    is_run = backend.workloads is None or workload.name in backend.workloads
    return workload.violates and is_run and not backend.guarantees.recovery


def _would_die(workload: workloads.Workload, backend: Backend) -> Unavailable:
    return Unavailable(
        backend.name,
        "a violation may end the process that measures: it claims no recovery",
        "Compare the backends that do",
        workload.name,
    )


def _cells(  # noqa: PLR0913 - what a cell is
    backends: Sequence[Backend],
    workload: workloads.Workload,
    content: str,
    size: int,
    *,
    level: Level | None,
    copied: Sequence[str],
) -> Iterator[Cell]:
    for backend in backends:
        if backend.codec and content in inputs.CONTENTS and content not in copied:
            continue
        if backend.workloads is not None and workload.name not in backend.workloads:
            continue
        if _dies(workload, backend):
            continue
        best: Level = "native" if backend.native_loop else "python"
        if level == "native" and best == "python":
            continue
        yield Cell(
            backend=backend.name,
            workload=workload.name,
            content=content,
            size=size,
            level=level or best,
        )
