"""Options of pyperf, which a run passes on: read as pyperf will, before anything is measured."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class OptionError(Exception):
    """Options that pyperf does not take, or that are the harness's to give."""


# What the harness says to pyperf itself, or what makes no sense in a run of many cells.
_RESERVED = ("output", "append", "worker", "pipe", "worker_task", "compare_to", "python_names")


def parse(options: Sequence[str]) -> Any:
    """Parse options as pyperf will.

    Raises:
        OptionError: pyperf does not take them, or they are the harness's to give.
    """
    parser = _parser()
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            arguments = parser.parse_args(list(options))
    except SystemExit as stopped:
        lines = errors.getvalue().strip().splitlines() or ["see `isobench run --help`"]
        message = lines[-1].split("error: ")[-1]
        raise OptionError(f"options of pyperf: {message}") from stopped
    for name in _RESERVED:
        if getattr(arguments, name, None) != parser.get_default(name):
            flag = name.replace("_", "-")
            raise OptionError(f"option of pyperf: --{flag} is given by the harness; leave it out")
    processes, values = parser.get_default("processes"), parser.get_default("values")
    if arguments.rigorous:
        arguments.processes = processes * 2
    elif arguments.fast:
        arguments.processes = max(processes // 2, 3)
        arguments.values = max(values * 2 // 3, 2)
    elif arguments.debug_single_value:
        arguments.processes, arguments.values, arguments.warmups = 1, 1, 0
    return arguments


@functools.cache
def _parser() -> Any:
    import pyperf

    # pyperf allows one Runner of a class a process, against benchmarks that share one by mistake.
    # This one runs nothing: a class of its own leaves theirs alone.
    class Options(pyperf.Runner):  # type: ignore[misc] # pyperf is untyped
        pass

    return Options().argparser
