"""All backends that are installed: the project's and third parties', by the same way.

A package offers backends under the entry point group `isobench.backends`; each entry names a
`Backend` or an iterable of them. One that cannot be loaded is reported, and the rest goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from itertools import islice
from typing import NamedTuple

from backends import names
from backends.contract import Availability, Backend, Guarantees

GROUP = "isobench.backends"

_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_OFFERED_MAX = 1000  # an iterable may be endless


class Broken(NamedTuple):
    """An entry point that gave no backends, and why."""

    entry_point: str
    error: str


def all_backends() -> list[Backend]:
    """List all installed backends: baselines first, then the others in the order of their names."""
    return list(_load()[0])


def broken() -> list[Broken]:
    """List the entry points that could not be loaded."""
    return list(_load()[1])


def find(name: str) -> Backend:
    """Find a backend by its name.

    Raises:
        LookupError: There is none; the message says which one may have been meant.
    """
    for backend in all_backends():
        if backend.name == name:
            return backend
    known = [backend.name for backend in all_backends()]
    raise LookupError(names.unknown("backend", name, known, listed_by="isobench list"))


@cache
def _load() -> tuple[tuple[Backend, ...], tuple[Broken, ...]]:
    found: dict[str, Backend] = {}
    entries, bad = _entries()
    # The project's own first: a third party cannot take their names.
    entries.sort(key=lambda e: (not _is_ours(e), e.name))
    for entry in entries:
        try:
            for backend in _offered(entry):
                if backend.name in found:
                    raise ValueError(f"the backend name {backend.name!r} is taken")  # noqa: TRY301
                found[backend.name] = backend
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever foreign code raises is its report
            bad.append(Broken(f"{entry.name} = {entry.value}", _said(error)))
    order = {"baseline": 0, "reference": 1, "wall": 2}
    backends = sorted(found.values(), key=lambda b: (order[b.kind], b.name))
    return tuple(backends), tuple(bad)


def _entries() -> tuple[list[EntryPoint], list[Broken]]:
    """List the entry points, and the packages whose own are malformed: one spoils a look-up."""
    try:
        return list(entry_points(group=GROUP)), []
    except Exception:  # noqa: BLE001 - whatever reading them runs into; told below, by package
        found: dict[tuple[str, str], EntryPoint] = {}
    bad = []
    for package in distributions():
        try:
            for entry in package.entry_points.select(group=GROUP):
                found.setdefault((entry.name, entry.value), entry)
        except Exception as error:  # noqa: BLE001 - as above
            name = package.metadata["Name"]
            bad.append(Broken(f"entry_points.txt of {name}", f"malformed: {_said(error)}"))
    return list(found.values()), bad


def _said(error: BaseException) -> str:
    """Say what was raised by foreign code, whose errors may themselves be broken."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - whatever its __str__ raises
        return type(error).__name__


def _is_ours(entry: EntryPoint) -> bool:
    return entry.value.startswith("backends.")


def _offered(entry: EntryPoint) -> list[Backend]:
    """Load what an entry point names.

    Raises:
        TypeError: It is not a backend or an iterable of them, or one describes itself wrongly.
        ValueError: A name or a kind is malformed, or there are too many.
    """
    offer = entry.load()
    backends = list(islice(offer, _OFFERED_MAX + 1)) if isinstance(offer, Iterable) else [offer]
    if len(backends) > _OFFERED_MAX:
        raise ValueError(f"more than {_OFFERED_MAX} backends")
    for backend in backends:
        if not isinstance(backend, Backend):
            raise TypeError(f"{backend!r} is not a backends.contract.Backend")
        if not isinstance(backend.name, str) or not _NAME.fullmatch(backend.name):
            raise ValueError(f"backend name {backend.name!r}: only letters, digits, dashes")
        if backend.kind not in ("wall", "baseline", "reference"):
            raise ValueError(f"backend {backend.name}: kind {backend.kind!r} is none of the three")
        _check_description(backend)
        # Ours know what they say, and are asked by those who want to know.
        if not _is_ours(entry) and not isinstance(backend.availability(), Availability):
            raise TypeError(f"backend {backend.name}: availability() returns no Availability")
    return backends


def _check_description(backend: Backend) -> None:
    """Check what listings and results rely on.

    Raises:
        TypeError: It is not as `Backend` documents it.
    """
    for attribute, kind in {
        "summary": str,
        "mechanism": str,
        "codec": str,
        "guarantees": Guarantees,
        "options": Mapping,
    }.items():
        value = getattr(backend, attribute)
        if not isinstance(value, kind):
            raise TypeError(
                f"backend {backend.name}: {attribute} is {value!r}, and no {kind.__name__}"
            )
    for option in backend.options.items():
        if not all(isinstance(part, str) for part in option):
            raise TypeError(f"backend {backend.name}: the option {option!r} is not of text")
