"""What this machine can measure, and what would make it quieter.

Checks only: nothing is changed, and `isobench doctor` prints what is found here.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backends import registry
from harness import host, prerequisites

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backends.contract import Backend
    from backends.registry import Broken

Verdict = Literal["ok", "warn", "bad"]
Topic = Literal["host", "backends", "counting", "storage", "noise"]

_SEVERITY: dict[Verdict, int] = {"ok": 0, "warn": 1, "bad": 2}

_NAMES_SHOWN = 3  # of walls with the same finding

# A run of the largest preset, figures included, takes tens of megabytes.
_ENOUGH_BYTES = 500_000_000
_LEAST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        topic: What it belongs to; checks of one topic are next to each other.
        name: What was looked at.
        verdict: `ok`; `warn`: some numbers are missing or noisy; `bad`: nothing can be measured
            or stored, or something that was installed is broken.
        finding: What was found, in one line.
        remedy: What to do about it; empty if nothing needs to be done or can be.
    """

    topic: Topic
    name: str
    verdict: Verdict
    finding: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, topic by topic."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict among the checks."""
        verdicts = [check.verdict for check in self.checks]
        return max(verdicts, key=_SEVERITY.__getitem__, default="ok")

    def about(self, topic: Topic) -> tuple[Check, ...]:
        """Give the checks of one topic."""
        return tuple(check for check in self.checks if check.topic == topic)


def diagnose(results: Path = Path("results")) -> Diagnosis:
    """Look at everything that bears on measuring here. Takes a second or two.

    Args:
        results: Where runs will be stored; need not be there yet.
    """
    return Diagnosis(
        (
            *check_host(host.facts()),
            *check_backends(registry.all_backends(), registry.broken()),
            *check_counting(),
            check_storage(results),
            *check_noise(host.noises()),
        )
    )


def check_host(facts: dict[str, host.JSON]) -> list[Check]:
    """State what machine this is. Nothing of it is wrong; what is noisy is said under noise."""
    virtual = "" if facts["virtualised"] == "no" else f", virtualised ({facts['virtualised']})"
    container = "" if facts["container"] == "no" else f", in a container ({facts['container']})"
    memory = facts["memory_bytes"]
    size = f"{memory / 2**30:.1f} GiB" if isinstance(memory, int) else str(memory)
    return [
        Check("host", "CPU", "ok", f"{facts['host']}, {facts['architecture']}"),
        Check("host", "kernel", "ok", f"{facts['kernel']}{virtual}{container}"),
        Check("host", "memory", "ok", size),
    ]


def check_backends(backends: Sequence[Backend], broken: Iterable[Broken]) -> list[Check]:
    """Say which walls can be measured here, and which entry points gave none."""
    checks = _of_one_finding([_check_backend(backend) for backend in backends])
    checks += [
        Check(
            "backends",
            bad.entry_point,
            "bad",
            f"could not be loaded: {bad.error}",
            "Repair the package that offers it, or uninstall it.",
        )
        for bad in broken
    ]
    if not backends:
        finding = "none is installed"
        remedy = "Install the project, which brings its own: make venv"
        checks.append(Check("backends", "backends", "bad", finding, remedy))
    elif not any(check.verdict == "ok" for check in checks):
        finding = "none can be measured here"
        checks.append(Check("backends", "backends", "bad", finding, "See each one's reason."))
    return checks


def _of_one_finding(checks: Iterable[Check]) -> list[Check]:
    """Join the checks that differ in nothing but the name: many walls lack the same."""
    names: dict[Check, list[str]] = {}
    for check in checks:
        names.setdefault(replace(check, name=""), []).append(check.name)
    return [replace(check, name=_listed(mine)) for check, mine in names.items()]


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return f"{names[0]} and {len(names) - 1} more (isobench list)"


def _check_backend(backend: Backend) -> Check:
    try:
        here = backend.availability()
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises is its finding
        finding = f"could not tell whether it is available: {type(error).__name__}: {error}"
        remedy = "Report it to whoever wrote this backend."
        return Check("backends", backend.name, "bad", finding, remedy)
    if here.available and here.note:
        return Check("backends", backend.name, "warn", f"{backend.summary} But {here.note}")
    if here.available:
        return Check("backends", backend.name, "ok", backend.summary)
    return Check("backends", backend.name, "warn", here.reason, here.remedy)


def check_counting() -> list[Check]:
    """Try the tools that count exactly: strace system calls, valgrind instructions."""
    try:
        lacks = prerequisites.lacking(["count"])
    except OSError as error:
        return [Check("counting", "counting tools", "warn", f"could not be tried: {error}")]
    checks = [
        Check(
            "counting",
            lack.key or lack.what,
            "warn",
            lack.says or f"{lack.what} is not installed",
            lack.remedy or prerequisites.line_to_type([lack]),
        )
        for lack in lacks
    ]
    if not checks:
        finding = "strace counts system calls, valgrind instructions"
        checks.append(Check("counting", "counting tools", "ok", finding))
    return checks


def check_storage(results: Path) -> Check:
    """See whether runs can be stored, and whether there is room for one."""
    place = results.absolute()
    while not os.path.lexists(place):
        place = place.parent
    name = str(results)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check("storage", name, "bad", f"cannot be looked at: {error.strerror}")
    if not place.is_dir():
        return Check("storage", name, "bad", f"{place} is not a folder", "Move it away.")
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = "Make it writable, or store runs elsewhere."
        return Check("storage", name, "bad", f"{place} cannot be written to", remedy)
    verdict: Verdict = "ok"
    if free < _ENOUGH_BYTES:
        verdict = "bad" if free < _LEAST_BYTES else "warn"
    remedy = "" if verdict == "ok" else "Make room: a run takes tens of megabytes."
    return Check("storage", name, verdict, f"{free / 1e9:.1f} GB free", remedy)


def check_noise(noises: Iterable[host.Noise]) -> list[Check]:
    """Say what makes numbers noisy here, and what would make the machine quieter."""
    checks = [Check("noise", "noise", "warn", noise.finding, noise.remedy) for noise in noises]
    return checks or [Check("noise", "noise", "ok", "nothing stands out")]
