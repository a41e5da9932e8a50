"""The paper's four findings, each decided on a run by a test that is stated, or not at all.

A number that decides is a ratio of differences of means. Its interval follows from theirs: both
ends are the least and the most that the 95 % intervals of the means allow. A finding is confirmed
or refuted where all of that interval is on one side of the threshold, and undecided where it is on
both. Several intervals must all be on one side. Times are looked at before counts, since the
paper's findings are about time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import pandas as pd

from harness import comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Verdict = Literal["confirmed", "refuted", "not decidable here"]

#: Where numbers are looked for, first to last. A modelled wall stands beside what was measured on
#: the same host, the baseline for one; both are times, and the range of the model is in the result.
_PROVENANCES = {
    "measured": ("measured",),
    "modelled": ("modelled", "measured"),
    "emulated": ("emulated",),
}

_ORDERS_OF_MAGNITUDE = 100.0  # the plural: two at least
_MODEST = 4096  # bytes: a page
_CODECS_DIFFER = 2.0
_FADES = 0.5  # of the relative overhead may be left at the largest size
_COPIES = 8.0  # what arguments and result, written and read on both sides, may add up to
_FAR_MORE = 2.0

_PLACEMENTS = ("sandcrust-pipe", "sandcrust-pipe-other-core")
_WORK, _CONTENT = "snappy-compress", "random"
_CODECS = ("mpk-bincode-v1", "mpk-bincode-v2", "mpk-abomonation-v1", "mpk-abomonation-v2")
_ELEMENTWISE, _MEMCPY = "mpk-abomonation-v1", "mpk-abomonation-v2"


class Undecidable(Exception):  # noqa: N818 - it is an outcome, not an error
    """A run lacks what a finding is decided by; the message says what."""


class _SpansError(Undecidable):
    """The numbers are there, and do not decide."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One of the paper's findings on a run.

    Attributes:
        number: Its number in the paper's list.
        claim: What the paper says.
        test: What decides it here.
        verdict: Whether it holds.
        numbers: Those that decided, or what is missing.
        provenance: Where they come from; empty where there are none.
    """

    number: int
    claim: str
    test: str
    verdict: Verdict
    numbers: str
    provenance: str = ""


class Interval(NamedTuple):
    """A number and the least and most that it may be."""

    mean: float
    low: float
    high: float

    def minus(self, other: Interval) -> Interval:
        """Subtract; the ends are the farthest apart that both allow."""
        return Interval(self.mean - other.mean, self.low - other.high, self.high - other.low)

    def over(self, other: Interval) -> Interval:
        """Divide by a number that is positive for sure.

        Raises:
            Undecidable: It may be zero or less.
        """
        if not other.low > 0:
            raise _SpansError("a difference that others are divided by is lost in the noise")
        ends = [end / divisor for end in (self.low, self.high) for divisor in other[1:]]
        return Interval(self.mean / other.mean, min(ends), max(ends))

    def text(self, digits: int) -> str:
        """Write it to some significant digits: `44.2 (8.37 to 61.3)`."""
        mean, low, high = (f"{_round(end, digits):,}" for end in self)
        return mean if low == high else f"{mean} ({low} to {high})"


def decide(table: pd.DataFrame, *, digits: int = 3) -> list[Finding]:
    """Decide the paper's findings on a run.

    Args:
        table: Its tidy table.
        digits: Significant ones of the numbers in the text; what is decided is not rounded.

    Returns:
        A finding each, in the paper's order.
    """
    claims = enumerate(_CLAIMS, start=1)
    return [_decide(number, table, claim, digits) for number, claim in claims]


def _decide(number: int, table: pd.DataFrame, claim: _Claim, digits: int) -> Finding:
    missing, spanning = [], []
    for provenance in _PROVENANCES:
        means = _Means(table, provenance, digits)
        if means.empty:
            continue
        try:
            holds, numbers = claim.decide(means)
        except _SpansError as reason:
            spanning.append(f"{provenance}: {reason}")
            continue
        except Undecidable as reason:
            missing.append(f"{provenance}: {reason}")
            continue
        verdict: Verdict = "confirmed" if holds else "refuted"
        said = "; ".join([f"{provenance}: {numbers}", *spanning])
        return Finding(number, claim.text, claim.test, verdict, said, provenance)
    why = "; ".join([*spanning, *missing]) or "the run has no results"
    return Finding(number, claim.text, claim.test, "not decidable here", why)


class _Means:
    """The means of one provenance, by what was measured, and of what may stand beside it."""

    def __init__(self, table: pd.DataFrame, provenance: str, digits: int) -> None:
        native = table[table["level"] == "native"]
        own, *beside = (native[native["provenance"] == p] for p in _PROVENANCES[provenance])
        others = [rows[~rows["backend"].isin(own["backend"])] for rows in beside]
        self.empty = own.empty
        self._rows = pd.concat([own, *others])
        self._digits = digits

    def of(self, backend: str, workload: str, size: int = 0) -> Interval:
        """Look a mean up.

        Raises:
            Undecidable: It was not measured.
        """
        content = "" if workload == "switch" else _CONTENT
        rows = self._rows
        mine = rows[
            (rows["backend"] == backend)
            & (rows["workload"] == workload)
            & (rows["content"] == content)
            & (rows["size"] == size)
        ]
        if mine.empty:
            where = f" at {comparison.format_size(size)}" if size else ""
            raise Undecidable(f"no {workload} of {backend}{where}")
        mean, low, high = (float(mine[name].iloc[0]) for name in ("mean", "low", "high"))
        known = math.isfinite(low) and math.isfinite(high)
        return Interval(mean, low, high) if known else Interval(mean, mean, mean)

    def net(self, backend: str, workload: str, size: int = 0) -> Interval:
        """Return what a wall adds to no wall."""
        return self.of(backend, workload, size).minus(self.of("none", workload, size))

    def has(self, backend: str, workload: str | None = None) -> bool:
        """Say whether a backend has any result, or one of a workload."""
        mine = self._rows[self._rows["backend"] == backend]
        return bool(len(mine) if workload is None else (mine["workload"] == workload).any())

    def sizes(self, backends: Sequence[str]) -> list[int]:
        """List the sizes of the work that these backends and the baseline share.

        Raises:
            Undecidable: There is none.
        """
        rows = self._rows[(self._rows["workload"] == _WORK) & (self._rows["content"] == _CONTENT)]
        by_backend = [
            set(rows.loc[rows["backend"] == name, "size"]) for name in ("none", *backends)
        ]
        shared = sorted(int(size) for size in set.intersection(*by_backend))
        if not shared:
            raise Undecidable(f"no size of {_WORK} that none, {', '.join(backends)} share")
        return shared

    def say(self, value: Interval) -> str:
        """Write a number that is derived from these means."""
        return value.text(self._digits)

    def is_over(self, value: Interval, threshold: float, what: str) -> bool:
        """Compare.

        Raises:
            _SpansError: The interval has the threshold inside.
        """
        if value.low >= threshold:
            return True
        if value.high < threshold:
            return False
        raise _SpansError(f"{what} is {self.say(value)}, on both sides of {threshold:g}")


# ---- the tests ----


def _switch(means: _Means) -> tuple[bool, str]:
    domain = next((name for name in ("mpk", "mpk-abomonation-v1") if means.has(name)), "mpk")
    placements = [name for name in _PLACEMENTS if means.has(name, "switch")] or _PLACEMENTS[:1]
    added = means.net(domain, "switch")
    ratios = {name: means.net(name, "switch").over(added) for name in placements}
    numbers = " and ".join(f"{name} adds {means.say(ratio)}" for name, ratio in ratios.items())
    text = f"in multiples of what {domain} adds to an empty call, {numbers}"
    if min(ratio.low for ratio in ratios.values()) >= _ORDERS_OF_MAGNITUDE:
        return True, text
    if max(ratio.high for ratio in ratios.values()) < _ORDERS_OF_MAGNITUDE:
        return False, text
    raise _SpansError(f"{text}, on both sides of {_ORDERS_OF_MAGNITUDE:g}")


def _data(means: _Means) -> tuple[bool, str]:
    codecs = [name for name in _CODECS if means.has(name)]
    if len(codecs) < 2:  # noqa: PLR2004 - two to compare
        raise Undecidable(f"fewer than two codecs of {', '.join(_CODECS)}")
    sizes = [size for size in means.sizes(codecs) if size <= _MODEST]
    if not sizes:
        raise Undecidable(f"no size up to {comparison.format_size(_MODEST)}")
    size = sizes[-1]
    switches = {name: means.net(name, "switch") for name in codecs}
    moved = {name: means.net(name, _WORK, size).minus(switches[name]) for name in codecs}
    by_cost = sorted(codecs, key=lambda name: moved[name].mean)
    least, most = by_cost[0], by_cost[-1]
    ratio = moved[most].over(switches[most])
    at = comparison.format_size(size)
    overtakes = means.is_over(ratio, 1.0, f"data over switch with {most} at {at}")
    text = f"at {at}, moving data takes {means.say(ratio)} times the switch with {most}"
    if not overtakes:
        return False, text
    # A codec whose cost may be nothing differs from the other by any factor.
    if moved[least].low <= 0 < moved[most].low and moved[least].high * _CODECS_DIFFER <= (
        moved[most].low
    ):
        return True, f"{text}; with {least} no cost is seen"
    differ = moved[most].over(moved[least])
    decides = means.is_over(differ, _CODECS_DIFFER, f"{most} over {least} at {at}")
    return decides, f"{text}, and {means.say(differ)} times as much as with {least}"


def _approach(means: _Means) -> tuple[bool, str]:
    codec = next((name for name in (_ELEMENTWISE, _MEMCPY) if means.has(name)), _ELEMENTWISE)
    sizes = means.sizes([codec])
    if len(sizes) < 2:  # noqa: PLR2004 - two to compare
        raise Undecidable(f"one size of {_WORK} only")
    small, large = sizes[0], sizes[-1]
    excess = {s: means.net(codec, _WORK, s).over(means.of("none", _WORK, s)) for s in sizes}
    worst = max(sizes, key=lambda size: excess[size].mean)
    left = excess[large].over(excess[small])
    ends = f"{comparison.format_size(small)} to {comparison.format_size(large)}"
    copy = means.of("mpk", _WORK, large).minus(means.of("mpk-view", _WORK, large))
    copies = means.net(codec, _WORK, large).over(copy)
    stays = means.is_over(left, _FADES, f"what is left of {codec}'s relative overhead, {ends},")
    more = means.is_over(copies, _COPIES, f"{codec}'s overhead in copies of the result")
    by_size = ", ".join(
        f"{means.say(excess[size])} at {comparison.format_size(size)}"
        + (" (the worst)" if size == worst else "")
        for size in sorted({small, worst, large})
    )
    text = (
        f"in multiples of none, {codec} adds {by_size}; the last is {means.say(copies)} copies of "
        "the result"
    )
    if stays and not more:
        # What is left is copies, so that the share of the rest was small from the start.
        text += "; it does not fall to half since the fixed cost is already small beside the copies"
    return not stays and not more, text


def _levels(means: _Means) -> tuple[bool, str]:
    by_codec = {
        codec: [
            name
            for name in (codec, *(f"{codec}-O{level}" for level in range(4)))
            if means.has(name)
        ]
        for codec in (_ELEMENTWISE, _MEMCPY)
    }
    unoptimised = [f"{codec}-O0" for codec in by_codec]
    missing = [name for name in unoptimised if not means.has(name)]
    missing += [codec for codec, names in by_codec.items() if not set(names) - set(unoptimised)]
    if missing:
        raise Undecidable(f"no results of {', '.join(missing)}")
    size = means.sizes([name for names in by_codec.values() for name in names])[-1]
    spans = {}
    for codec, names in by_codec.items():
        added = sorted((means.net(name, _WORK, size) for name in names), key=lambda i: i.mean)
        spans[codec] = added[-1].over(added[0])
    ratio = spans[_ELEMENTWISE].over(spans[_MEMCPY])
    holds = means.is_over(ratio, _FAR_MORE, "the element-wise codec's span over the memcpy one's")
    text = (
        f"at {comparison.format_size(size)}, the slowest level adds "
        f"{means.say(spans[_ELEMENTWISE])} times what the fastest does for {_ELEMENTWISE}, "
        f"{means.say(spans[_MEMCPY])} times for {_MEMCPY}"
    )
    return holds, text


@dataclass(frozen=True)
class _Claim:
    text: str
    test: str
    decide: Callable[[_Means], tuple[bool, str]]


_SWITCH_CLAIM = _Claim(
    "The context switch of a domain is orders of magnitude cheaper than Sandcrust's.",
    f"What sandcrust-pipe adds to an empty call is at least {_ORDERS_OF_MAGNITUDE:g} times "
    "what the domain adds (mpk; mpk-abomonation-v1 where that is missing), with the child on the "
    "caller's core and on another, as far as both were run: Sandcrust leaves that to the "
    "scheduler.",
    _switch,
)
_DATA_CLAIM = _Claim(
    "For modest arguments the cost of moving data overtakes the cost of the switch; the codec "
    "decides.",
    f"At the largest size up to {comparison.format_size(_MODEST)}, {_WORK} of {_CONTENT} "
    "content: what the costliest codec adds beyond its switch exceeds that switch, and is at "
    f"least {_CODECS_DIFFER:g} times what the cheapest codec adds beyond its own.",
    _data,
)
_APPROACH_CLAIM = _Claim(
    "Abomonation-style copying approaches the baseline as data grows; what remains is memory "
    "copies.",
    f"{_WORK} of {_CONTENT} content with {_ELEMENTWISE}: the overhead relative to none at the "
    f"largest size is less than {_FADES:g} of that at the smallest, and less than "
    f"{_COPIES:g} copies of the result (a copy is what mpk takes beyond mpk-view).",
    _approach,
)
_LEVELS_CLAIM = _Claim(
    "Optimisation level matters far more to the element-wise codec than to the memcpy one.",
    f"{_WORK} of {_CONTENT} content at the largest size: the most that a level of "
    f"{_ELEMENTWISE} adds over the least is at least {_FAR_MORE:g} times that ratio of {_MEMCPY}.",
    _levels,
)
_CLAIMS = (_SWITCH_CLAIM, _DATA_CLAIM, _APPROACH_CLAIM, _LEVELS_CLAIM)


def _round(value: float, digits: int) -> float | int:
    rounded = float(f"{value:.{digits - 1}e}")
    return int(rounded) if rounded.is_integer() else rounded
