"""What tests of every room use."""

from __future__ import annotations

from typing import NamedTuple

from backends import native
from backends.contract import ForeignFunction


class Functions:
    """Foreign functions by their names: `functions.benign("echo")`."""

    EMPTY = ForeignFunction(native.WORKLOADS, "foreign_empty")
    COMPRESS = ForeignFunction(native.WORKLOADS, "foreign_compress")
    UNCOMPRESS = ForeignFunction(native.WORKLOADS, "foreign_uncompress")

    @staticmethod
    def benign(name: str) -> ForeignFunction:
        return ForeignFunction(native.BENIGN, f"benign_{name}")

    @staticmethod
    def hostile(name: str) -> ForeignFunction:
        return ForeignFunction(native.HOSTILE, f"hostile_{name}")


class Resources(NamedTuple):
    """What this process holds: open descriptors, child processes, resident memory of its own.

    Memory is in bytes.
    """

    descriptors: int
    children: int
    memory: int
