"""Figure 1: what a sandboxed call expands to, in the words of the code that does it.

The paper's figure shows the expansion of its macro; here no code is generated: a call goes through
these functions. A test looks each name up, so that the figure cannot go stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from harness.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Step:
    """A box.

    Attributes:
        lane: Number of its column.
        row: Number of its row.
        word: The paper's word for it.
        names: What does it: attributes of `backends.contract`, or symbols in native/domain.
        text: Lines that say what is done.
    """

    lane: int
    row: int
    word: str
    names: Sequence[str]
    text: Sequence[str]


_LANES = ("the caller", "the gate", "the domain: own key, stack, heap")

STEPS = {
    "define": Step(
        0, 0, "define", ("ForeignFunction", "Backend.open"), ("library and symbol; a wall",)
    ),
    "open": Step(
        2, 0, "initialise", ("domain_open",), ("key, stack and heap; instances", "of the libraries")
    ),
    "push": Step(
        0, 1, "push arguments", ("Sandbox.call",), ("read where they lie,", "or copied by a codec")
    ),
    "enter": Step(
        1,
        2,
        "enter",
        ("domain_enter", "gate_code_begin"),
        ("keep rsp; the domain's stack;", "WRPKRU, checked"),
    ),
    "call": Step(
        2, 3, "call", (), ("the foreign function: can read", "the process, write its domain only")
    ),
    "exit": Step(1, 4, "exit", ("gate_code_exit",), ("WRPKRU, checked; rsp back",)),
    "collect": Step(
        0,
        5,
        "collect the result",
        ("take_result",),
        ("place and length checked,", "copied out: bytes"),
    ),
    "violation": Step(
        2,
        5,
        "violation",
        ("gate_signal_entry",),
        ("fault, abort, system call,", "time limit: a signal"),
    ),
    "rewind": Step(1, 6, "rewind", ("gate_code_rewind",), ("back to the rsp that was kept",)),
    "error": Step(
        0,
        7,
        "discard, return the error",
        ("domain_discard", "ViolationError"),
        ("the next call works",),
    ),
}

_CALL = ("define", "push", "enter", "call", "exit", "collect")
_VIOLATION = ("call", "violation", "rewind", "error")

# Inches.
_HEADING = 0.24
_ROW = 0.66
_BOX = 0.54
_GAP = 0.14
_WIDTH = (style.PAGE - 2 * style.MARGIN - 2 * _GAP) / 3
_MONO = "DejaVu Sans Mono"
_SHADES = ("0.95", "white", "#FBEBDD")


def draw() -> Figure:
    """Draw Figure 1. It is the same for every run."""
    with style.styled():
        figure = _draw()
        figure.draw_without_rendering()
    return figure


def _draw() -> Figure:
    rows = 1 + max(step.row for step in STEPS.values())
    title = "What a sandboxed call goes through, under the walls of protection keys"
    top = style.MARGIN + style.LINE * 1.5
    body = _HEADING + rows * _ROW
    notes = style.wrap(
        "Solid: a call that returns. Dashed: one that ends in a violation. In typewriter face: "
        "names in backends/contract.py and native/domain.",
        style.PAGE - 2 * style.MARGIN,
    )
    height = top + body + style.LINE * len(notes) + 2 * style.MARGIN
    figure = Figure(figsize=(style.PAGE, height))
    style.write_lines(figure, [title], style.MARGIN, weight="bold")
    axes = style.add_axes(figure, 0, top, style.PAGE, body)
    axes.set_xlim(0, style.PAGE)
    axes.set_ylim(body, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.axis("off")
    for number, (name, shade) in enumerate(zip(_LANES, _SHADES, strict=True)):
        left = _left(number)
        axes.add_patch(Rectangle((left, 0), _WIDTH, body, facecolor=shade, edgecolor="none"))
        axes.text(left + _WIDTH / 2, _HEADING / 2, name, ha="center", va="center", style="italic")
    _draw_arrow(axes, STEPS["define"], STEPS["open"], violation=False)
    for path in (_CALL, _VIOLATION):
        for one, other in pairwise(path):
            _draw_arrow(axes, STEPS[one], STEPS[other], violation=path is _VIOLATION)
    for step in STEPS.values():
        _draw_box(axes, step)
    style.write_lines(figure, notes, top + body + style.MARGIN, color="0.25")
    return figure


def _draw_box(axes: Axes, step: Step) -> None:
    left, middle = _left(step.lane) + 0.12, _middle(step.row)
    violation = step.row >= STEPS["violation"].row and step is not STEPS["collect"]
    axes.add_patch(
        FancyBboxPatch(
            (left, middle - _BOX / 2),
            _WIDTH - 0.24,
            _BOX,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="white",
            edgecolor=_colour(violation=violation),
            linewidth=0.9,
        )
    )
    lines = [(step.word, {"weight": "bold"})]
    lines += [(", ".join(step.names), {"family": _MONO})] if step.names else []
    lines += [(line, {}) for line in step.text]
    spacing = style.LINE * 0.98
    first = middle - spacing * (len(lines) - 1) / 2
    for number, (line, look) in enumerate(lines):
        axes.text(left + 0.07, first + number * spacing, line, va="center_baseline", **look)  # type: ignore[arg-type] # properties of text


def _draw_arrow(axes: Axes, start: Step, end: Step, *, violation: bool) -> None:
    """Draw an arrow: down in a lane, across in a row, or across and then down."""
    inset = 0.12
    step = 1 if end.lane > start.lane else -1
    if start.lane == end.lane:
        x = _left(start.lane) + _WIDTH / 2
        ends = ((x, _middle(start.row) + _BOX / 2), (x, _middle(end.row) - _BOX / 2))
        bend = "arc3"
    else:
        side = _WIDTH - inset if step > 0 else inset
        begin = (_left(start.lane) + side, _middle(start.row))
        if start.row == end.row:
            other = inset if step > 0 else _WIDTH - inset
            ends, bend = (begin, (_left(end.lane) + other, _middle(end.row))), "arc3"
        else:
            x = _left(end.lane) + _WIDTH / 2
            ends = (begin, (x, _middle(end.row) - _BOX / 2))
            bend = "angle,angleA=0,angleB=90,rad=4"
    axes.add_patch(
        FancyArrowPatch(
            *ends,
            arrowstyle="-|>,head_length=4,head_width=2",
            connectionstyle=bend,
            shrinkA=0,
            shrinkB=0,
            linewidth=0.9,
            linestyle="dashed" if violation else "solid",
            color=_colour(violation=violation),
        )
    )


def _colour(*, violation: bool) -> str:
    return style.VIOLATION if violation else "0.2"


def _left(lane: int) -> float:
    return style.MARGIN + lane * (_WIDTH + _GAP)


def _middle(row: int) -> float:
    return _HEADING + (row + 0.5) * _ROW
