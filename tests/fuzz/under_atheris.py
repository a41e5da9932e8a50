"""Runs a fuzz target in Python under atheris: `python -m fuzz.under_atheris NAME OPTION…`.

The options are libFuzzer's, and so is the search: atheris counts which branches of the instrumented
modules an input reaches.
"""

from __future__ import annotations

import importlib
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import atheris

if TYPE_CHECKING:
    from collections.abc import Callable

# What reads, and what it reads with; whole packages.
INSTRUMENTED = ["backends", "elftools", "harness", "pyperf"]

# How often a target's own `mutate` changes an input, and not libFuzzer.
_OWN_WAY = 0.8


def _unwrap_loaders() -> None:
    """Let the project, installed in place, be loaded by Python's own loader.

    scikit-build-core wraps it, and of what others load atheris sees nothing.
    """

    def unwrapping(find: Callable[..., Any]) -> Callable[..., Any]:
        def find_spec(*arguments: Any) -> Any:
            spec = find(*arguments)
            if spec is not None:
                spec.loader = getattr(spec.loader, "_skbuild_loader", spec.loader)
            return spec

        return find_spec

    for finder in sys.meta_path:
        if type(finder).__name__.startswith("ScikitBuild"):
            finder.find_spec = unwrapping(finder.find_spec)  # type: ignore[method-assign]


def main() -> None:
    """Fuzz until the time is over or an input breaks something."""
    name, *options = sys.argv[1:]
    _unwrap_loaders()
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"fuzz.{name}")
    mutate = getattr(target, "mutate", None)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - libFuzzer says where it begins
        changed = mutate(data, random) if random.random() < _OWN_WAY else None
        return atheris.Mutate(data, max_size) if changed is None else changed[:max_size]

    mutator = {} if mutate is None else {"custom_mutator": change}
    atheris.Setup([sys.argv[0], *options], target.check, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
