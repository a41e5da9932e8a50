"""All backends that are installed: the project's and third parties', by the same way.

A package offers backends under the entry point group `isobench.backends`; each entry names a
`Backend` or an iterable of them. One that cannot be loaded is reported, and the rest goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from backends import names
from backends.contract import Backend

GROUP = "isobench.backends"

_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


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
    bad: list[Broken] = []
    # The project's own first: a third party cannot take their names.
    entries = sorted(entry_points(group=GROUP), key=lambda e: (not _is_ours(e), e.name))
    for entry in entries:
        try:
            for backend in _offered(entry):
                if backend.name in found:
                    raise ValueError(f"the backend name {backend.name!r} is taken")  # noqa: TRY301
                found[backend.name] = backend
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever foreign code raises is its report
            bad.append(Broken(f"{entry.name} = {entry.value}", f"{type(error).__name__}: {error}"))
    order = {"baseline": 0, "reference": 1, "wall": 2}
    backends = sorted(found.values(), key=lambda b: (order[b.kind], b.name))
    return tuple(backends), tuple(bad)


def _is_ours(entry: EntryPoint) -> bool:
    return entry.value.startswith("backends.")


def _offered(entry: EntryPoint) -> list[Backend]:
    """Load what an entry point names.

    Raises:
        TypeError: It is not a backend or an iterable of them.
        ValueError: A name or a kind is malformed.
    """
    offer = entry.load()
    backends = list(offer) if isinstance(offer, Iterable) else [offer]
    for backend in backends:
        if not isinstance(backend, Backend):
            raise TypeError(f"{backend!r} is not a backends.contract.Backend")
        if not _NAME.fullmatch(backend.name):
            raise ValueError(f"backend name {backend.name!r}: only letters, digits, dashes")
        if backend.kind not in ("wall", "baseline", "reference"):
            raise ValueError(f"backend {backend.name}: kind {backend.kind!r} is none of the three")
    return backends
