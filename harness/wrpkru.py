"""What WRPKRU costs, as published: for hosts whose CPU lacks it.

A modelled number is the measured time of all that surrounds the instruction, plus the instruction
as others measured it: in cycles, on their CPUs. Cycles become time by this host's clock. WRPKRU is
practically a barrier (Intel SDM volume 2: accesses that PKRU affects do not execute, even
speculatively, before it has), so that what it costs depends on what is in flight around it: a
range, not a number.
"""

from __future__ import annotations

import re
from pathlib import Path

#: Cycles of one WRPKRU and where they are from. Both papers are quoted second-hand: their text was
#: not at hand when this was written.
CYCLES_LOW, CYCLES_HIGH = 11.0, 260.0
RANGE_SOURCE = "ERIM (Vahldiek-Oberwagner et al., USENIX Security 2019)"
CYCLES_TYPICAL = 23.3
TYPICAL_SOURCE = "libmpk (Park et al., USENIX ATC 2019), on Skylake-SP"

#: What a modelled number is, for the notes under figures and tables.
EXPLANATION = (
    "the same code without WRPKRU, which this CPU lacks, measured on this host, plus "
    f"{CYCLES_TYPICAL:g} cycles of this host's clock for each WRPKRU ({TYPICAL_SOURCE}); the range "
    f"is {CYCLES_LOW:g} to {CYCLES_HIGH:g} cycles each ({RANGE_SOURCE}); both quoted second-hand"
)


def clock_hz(cpuinfo: Path = Path("/proc/cpuinfo")) -> float:
    """Read this host's clock: the mean of what the kernel says of its CPUs now.

    Raises:
        OSError: It does not say.
    """
    found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", cpuinfo.read_text(), re.MULTILINE)
    if not found:
        raise OSError(f"{cpuinfo} does not say the CPU's frequency, which a modelled cell needs")
    return 1e6 * sum(map(float, found)) / len(found)


def nanoseconds(cycles: float, hz: float) -> float:
    """Convert cycles at a clock in Hz."""
    return cycles / hz * 1e9
