"""What is known of this machine that bears on its numbers, and what makes them noisy.

All of it is best effort: what a machine does not tell is "unknown", or "not exposed" where the
kernel leaves a file out, as it does in most virtual machines and containers.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backends.contract import allowed_cpus
from harness import wrpkru
from harness.prerequisites import attempt

if TYPE_CHECKING:
    from collections.abc import Iterable

JSON = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None

UNKNOWN = "unknown"
NOT_EXPOSED = "not exposed"

# Of the CPU's features, those that a wall can be made of. `pku`: the CPU has protection keys;
# `ospke`: the kernel lets programs use them; `poe`: the same on aarch64.
_FLAGS = {"x86_64": ("pku", "ospke"), "aarch64": ("poe",)}

# python-snappy compresses with cramjam's own snappy, not with libsnappy.
_DISTRIBUTIONS = ("isobench", "pyperf", "cffi", "python-snappy", "cramjam", "pillow")

_ASLR = {"0": "off", "1": "without the heap", "2": "full"}

# Seconds for a command that should take milliseconds.
_TIMEOUT = 1.0
_PYPERF_TIMEOUT = 2.0

# What pyperf advises on these is said from the same files, more fully, by this module.
_SAID_HERE = ("CPU scaling governor", "power cable")


def facts(root: Path = Path("/")) -> dict[str, JSON]:
    """Collect the facts about this machine for a run's record.

    Args:
        root: Where proc, sys, usr and the like are.

    Returns:
        By name, units in the name. `host` is a label, not the machine's name, which is nobody's
        business. Between two runs on a machine `host`, `cpu`, `architecture` and `kernel` stay.
    """
    system = os.uname()
    cpu = _cpu_model(root)
    logical = os.cpu_count() or 1
    allowed: list[JSON] = [*allowed_cpus()]
    return {
        "host": f"{cpu}, {logical} CPU{'s' if logical > 1 else ''}",
        "cpu": cpu,
        "cpu_mhz": _cpu_mhz(root),
        "architecture": system.machine,
        "logical_cpus": logical,
        "allowed_cpus": allowed,
        "cpu_quota": _cpu_quota(root),
        "cpu_flags": _cpu_flags(root),
        "smt": _smt(root),
        "governor": _governor(root),
        "kernel": system.release,
        "kernel_version": system.version,
        "mitigations": _mitigations(root),
        "aslr": _aslr(root),
        "transparent_hugepages": _transparent_hugepages(root),
        "virtualised": _virtualised(root),
        "container": _container(root),
        "memory_bytes": _memory_bytes(root),
        "load_average": [*_load_average(root)] or UNKNOWN,
        "libc": _libc(),
        "compiler": _compiler(),
        "versions": _versions(root),
    }


class Noise(NamedTuple):
    """Something that makes numbers noisy, and what would make the machine quieter."""

    finding: str
    remedy: str


def noise_warnings(root: Path = Path("/")) -> list[str]:
    """Say in a line each what makes this machine's numbers noisy; none on a quiet one.

    Args:
        root: Where proc and sys are.
    """
    return [noise.finding for noise in noises(root)]


def noises(root: Path = Path("/")) -> list[Noise]:
    """List what makes this machine's numbers noisy, and what to do about each.

    Args:
        root: Where proc and sys are.
    """
    own = (_load, _few_cpus, _quota, _guest, _changing_clock, _battery)
    # Its exit code says whether there is advice; on standard error are its own helpers' troubles.
    pyperf = [sys.executable, "-m", "pyperf", "system"]
    report = attempt([*pyperf, "show"], timeout=_PYPERF_TIMEOUT).stdout
    tune = f"sudo {shlex.join(pyperf)} tune (undo it with: reset)"
    boot = "Add it to the kernel's command line and boot."
    return [
        *filter(None, (look(root) for look in own)),
        *(
            Noise(f"pyperf advises: {advice}", boot if "kernel parameter" in advice else tune)
            for advice in pyperf_advice(report)
        ),
    ]


def pyperf_advice(report: str) -> list[str]:
    """Take the advice out of what `pyperf system show` prints.

    Its warnings are left out: they tell what it could not find out.
    """
    section = re.search(r"^Advices\n=+\n\n(.*?)(?:\n\n|\Z)", report, re.DOTALL | re.MULTILINE)
    lines = section[1].splitlines() if section else []
    return [
        line.strip()
        for line in lines
        if line.strip() and not any(subject in line for subject in _SAID_HERE)
    ]


# ---- reading ----


def _text(path: Path) -> str:
    """Read a small file; empty if that does not work, for whatever reason."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""


def _paths(folder: Path, pattern: str) -> list[Path]:
    """List the paths that match; none if the folder cannot be read."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _field(text: str, *names: str) -> str:
    """Find the first line `name : value` of these names, in the order of the names."""
    for name in names:
        found = re.search(rf"^{name}[ \t]*:[ \t]*(.*\S)", text, re.MULTILINE)
        if found:
            return found[1]
    return ""


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))


# ---- the CPU ----


def _cpu_model(root: Path) -> str:
    model = _field(_text(root / "proc/cpuinfo"), "model name")
    if not model:  # aarch64's cpuinfo has numbers only; lscpu knows the names
        model = _field(attempt(["lscpu"], timeout=_TIMEOUT).stdout, "Model name")
    return model if model and model != "-" else UNKNOWN


def _cpu_mhz(root: Path) -> float | str:
    """Give the mean clock of the CPUs as the kernel says it is now."""
    try:
        return round(wrpkru.clock_hz(root / "proc/cpuinfo") / 1e6, 1)
    except (OSError, ValueError):
        return NOT_EXPOSED


def _features(root: Path) -> set[str]:
    return set(_field(_text(root / "proc/cpuinfo"), "flags", "Features").split())


def _cpu_flags(root: Path) -> JSON:
    features = _features(root)
    if not features:
        return UNKNOWN
    return {flag: flag in features for flag in _FLAGS.get(os.uname().machine, ())}


def _cpu_quota(root: Path) -> float | str:
    """Give the CPUs' worth of time that the control group may use."""
    quota = re.fullmatch(r"(\d{1,15}) (\d{1,15})", _text(root / "sys/fs/cgroup/cpu.max"))
    if not quota or not int(quota[2]):
        return "none"
    return int(quota[1]) / int(quota[2])


def _smt(root: Path) -> str:
    active = _text(root / "sys/devices/system/cpu/smt/active")
    return {"0": "off", "1": "on"}.get(active, NOT_EXPOSED)


def _governor(root: Path) -> str:
    files = _paths(root / "sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_governor")
    return _joined(map(_text, files)) or NOT_EXPOSED


# ---- the system ----


def _mitigations(root: Path) -> JSON:
    files = _paths(root / "sys/devices/system/cpu/vulnerabilities", "*")
    return {file.name: _text(file) or UNKNOWN for file in files} or NOT_EXPOSED


def _aslr(root: Path) -> str:
    return _ASLR.get(_text(root / "proc/sys/kernel/randomize_va_space"), UNKNOWN)


def _transparent_hugepages(root: Path) -> str:
    chosen = re.search(r"\[(\w+)\]", _text(root / "sys/kernel/mm/transparent_hugepage/enabled"))
    return chosen[1] if chosen else NOT_EXPOSED


def _memory_bytes(root: Path) -> int | str:
    total = re.match(r"(\d{1,15}) kB", _field(_text(root / "proc/meminfo"), "MemTotal"))
    return int(total[1]) * 1024 if total else UNKNOWN


def _load_average(root: Path) -> list[float]:
    """Give the number of runnable threads over 1, 5 and 15 minutes; empty if unknown."""
    loads = re.match(r"(\d+\.\d+) (\d+\.\d+) (\d+\.\d+)", _text(root / "proc/loadavg"))
    return [float(load) for load in loads.groups()] if loads else []


def _virtualised(root: Path) -> str:
    """Give the hypervisor's name, or "no"."""
    detected = attempt(["systemd-detect-virt", "--vm"], timeout=_TIMEOUT).stdout.strip()
    if detected:
        return "no" if detected == "none" else detected
    kind = _text(root / "sys/hypervisor/type")
    if kind:
        return kind
    vendor = _text(root / "sys/class/dmi/id/sys_vendor")
    product = _text(root / "sys/class/dmi/id/product_name")
    guests = r"QEMU|KVM|VMware|VirtualBox|innotek|Xen|Bochs|Parallels|Virtual Machine|EC2|Google"
    board = f"{vendor} {product}".strip()
    if "hypervisor" in _features(root):
        return board or "by an unnamed hypervisor"
    return board if re.search(guests, board) else "no"


def _container(root: Path) -> str:
    """Give the container's kind, or "no"."""
    detected = attempt(["systemd-detect-virt", "--container"], timeout=_TIMEOUT).stdout.strip()
    if detected:
        return "no" if detected == "none" else detected
    marks = {"docker": ".dockerenv", "podman": "run/.containerenv"}
    return next((kind for kind, mark in marks.items() if _paths(root, mark)), "no")


# ---- software ----


def _libc() -> str:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        version = None
    return version or " ".join(platform.libc_ver()).strip() or UNKNOWN


def _compiler() -> str:
    """Give the C compiler that a build would take now: the one that did may be gone."""
    command = os.environ.get("CC", "").split() or ["cc"]
    lines = attempt([*command, "--version"], timeout=_TIMEOUT).stdout.splitlines()
    return lines[0].strip() if lines else UNKNOWN


def _versions(root: Path) -> JSON:
    versions: dict[str, JSON] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    versions["libsnappy"] = _library(root, "libsnappy1*", "libsnappy.so.1")
    versions["libpng"] = _library(root, "libpng16-16*", "libpng16.so.16")
    versions["zlib"] = _library(root, "zlib1g", "libz.so.1")  # libpng's, and the images' encoder
    return versions


def _library(root: Path, package: str, soname: str) -> str:
    """Give the Debian package's version, else the name of the file that the soname leads to."""
    query = ["dpkg-query", "--show", "--showformat", "${Version}\n", package]
    versions = attempt(query, timeout=_TIMEOUT).stdout.split()
    if versions:
        return _joined(versions)
    for folder in ("usr/local/lib", "usr/lib64", "usr/lib", "usr/lib/*-linux-gnu"):
        for path in _paths(root, f"{folder}/{soname}"):
            return Path(os.path.realpath(path)).name  # does not raise, whatever the links are
    return UNKNOWN


# ---- noise ----


def _load(root: Path) -> Noise | None:
    load = next(iter(_load_average(root)), 0.0)
    cpus = os.cpu_count() or 1
    # One thread for each two CPUs: on two of them, another program has one to itself.
    if load < cpus / 2:
        return None
    return Noise(
        f"Others are at work: {load:.2f} threads wanted {cpus} CPUs in the last minute",
        "Stop other programs, or wait until they are done.",
    )


def _few_cpus(_: Path) -> Noise | None:
    cpus = allowed_cpus()
    if len(cpus) > 1:
        return None
    return Noise(
        f"Only CPU {cpus[0]} may be used: caller, sandbox and everything else take turns on it",
        "Allow at least two: see taskset, the container's cpuset, the virtual machine's CPUs.",
    )


def _quota(root: Path) -> Noise | None:
    quota = _cpu_quota(root)
    if isinstance(quota, str):
        return None
    return Noise(
        f"A quota of {quota:g} CPUs applies: the kernel pauses whoever has used it up",
        "Start the container without a limit of CPU time; give it CPUs of its own instead.",
    )


def _guest(root: Path) -> Noise | None:
    name = _virtualised(root)
    if name == "no":
        return None
    return Noise(
        f"This is a virtual machine ({name}): its host's other guests and exits to it take time",
        "Measure on a physical machine where absolute times matter.",
    )


def _changing_clock(root: Path) -> Noise | None:
    governor = _governor(root)
    if governor in ("performance", NOT_EXPOSED):
        return None
    return Noise(
        f"The frequency governor is {governor}: the clock changes with the load",
        "sudo cpupower frequency-set --governor performance",
    )


def _battery(root: Path) -> Noise | None:
    for supply in _paths(root / "sys/class/power_supply", "*"):
        ours = _text(supply / "scope") != "Device"  # not a mouse's
        battery = _text(supply / "type") == "Battery"
        if ours and battery and _text(supply / "status") == "Discharging":
            return Noise("On battery: the CPU saves power", "Plug the power cable in.")
    return None
