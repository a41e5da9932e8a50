"""Whether this machine has memory protection keys, for the backends that need them."""

from __future__ import annotations

import platform
from pathlib import Path

from backends.contract import Availability


def availability() -> Availability:
    """Need a CPU that has protection keys and a kernel that uses them."""
    if not _is_x86():
        return Availability.no(
            f"needs protection keys of x86-64, and this CPU is {platform.machine()}",
            "run it on an x86-64 machine",
        )
    if not _has_protection_keys():
        return Availability.no(
            "the CPU has no protection keys, or they are hidden from this machine",
            "`isobench run` measures it in the emulated machine; what uses it runs there by: "
            "isobench emulate -- COMMAND",
            emulated=True,
        )
    return Availability.yes()


def lacking() -> bool:
    """Say whether this machine could have protection keys and has none."""
    return _is_x86() and not _has_protection_keys()


def _is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def _has_protection_keys() -> bool:
    """Say whether the kernel has switched protection keys on: CPU flag `ospke`."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "ospke" in flags.split()
