from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import host

READY = """\
Show the system configuration

System state
============

CPU: use 8 logical CPUs: 0-7

OK! System ready for benchmarking
"""

# As pyperf 2.10 prints it on a laptop on battery.
ADVICE = """\
Show the system configuration

System state
============

CPU: use 2 logical CPUs: 0-1
Perf event: Maximum sample rate: 100000 per second
ASLR: Full randomization
Linux scheduler: No CPU is isolated

Advices
=======

CPU Frequency: Use CPU scaling governor 'performance'
Perf event: Set max sample rate to 1
Power supply: The power cable must be plugged
Linux scheduler: Use isolcpus=<cpu list> kernel parameter to isolate CPUs

Warnings
========

Turbo Boost (MSR): Failed to read MSR 0x1a0 from /dev/cpu/0/msr: [Errno 2] No such file
Turbo Boost (MSR): Try to load the msr kernel module: sudo modprobe msr

Run "python -m pyperf system tune" to tune the system configuration to run benchmarks
"""

LAPTOP = {
    "proc/cpuinfo": (
        "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i7-1185G7 @ 3.00GHz\n"
        "flags\t\t: fpu vme pku ospke fsrm\n\nprocessor\t: 1\nmodel name\t: other\n"
    ),
    "proc/meminfo": "MemTotal:       16384 kB\nMemFree:        1 kB\n",
    "proc/loadavg": "900.50 1.25 0.75 2/89 3635\n",
    "proc/sys/kernel/randomize_va_space": "2\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/cpu/vulnerabilities/spectre_v1": "Mitigation: usercopy\n",
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "20XW\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/status": "Discharging\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "usr/lib/x86_64-linux-gnu/libsnappy.so.1.1.9": "",
}


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    build(tmp_path, LAPTOP)
    library = tmp_path / "usr/lib/x86_64-linux-gnu"
    (library / "libsnappy.so.1").symlink_to("libsnappy.so.1.1.9")
    return tmp_path


@pytest.fixture
def _no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def _x86_64(monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.uname_result(("Linux", "a-private-name", "6.1.0", "#1 SMP", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: system)


def test_facts_of_this_machine_can_be_stored() -> None:
    facts = host.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["kernel"] == os.uname().release
    assert facts["allowed_cpus"] == sorted(os.sched_getaffinity(0))


def test_what_must_stay_between_two_runs_of_a_machine_stays() -> None:
    first, second = host.facts(), host.facts()
    for name in ("host", "cpu", "architecture", "kernel"):
        assert isinstance(first[name], str)
        assert first[name] == second[name]


@pytest.mark.usefixtures("_no_commands", "_x86_64")
def test_facts_are_read_from_the_system(laptop: Path) -> None:
    facts = host.facts(laptop)
    expected: dict[str, host.JSON] = {
        "cpu": "Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
        "architecture": "x86_64",
        "cpu_flags": {"pku": True, "ospke": True},
        "cpu_quota": 1.5,
        "smt": "on",
        "governor": "powersave",
        "mitigations": {"meltdown": "Not affected", "spectre_v1": "Mitigation: usercopy"},
        "aslr": "full",
        "transparent_hugepages": "madvise",
        "virtualised": "no",
        "container": "no",
        "memory_bytes": 16 * 1024 * 1024,
        "load_average": [900.5, 1.25, 0.75],
    }
    assert {name: facts[name] for name in expected} == expected
    versions = facts["versions"]
    assert isinstance(versions, dict)
    assert versions["libsnappy"] == "libsnappy.so.1.1.9"
    assert versions["python"] == sys.version.split()[0]


@pytest.mark.usefixtures("_no_commands", "_x86_64")
def test_the_machines_name_stays_private(laptop: Path) -> None:
    assert "a-private-name" not in json.dumps(host.facts(laptop))


@pytest.mark.usefixtures("_no_commands")
@pytest.mark.parametrize(("features", "there"), [("fp asimd poe", True), ("fp asimd", False)])
def test_permission_overlays_are_a_flag_of_aarch64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: str, *, there: bool
) -> None:
    system = os.uname_result(("Linux", "name", "6.12", "#1", "aarch64"))
    monkeypatch.setattr(os, "uname", lambda: system)
    build(
        tmp_path, {"proc/cpuinfo": f"processor\t: 0\nFeatures\t: {features}\nCPU part\t: 0xd0c\n"}
    )
    facts = host.facts(tmp_path)
    assert facts["cpu_flags"] == {"poe": there}
    assert facts["cpu"] == "unknown"


@pytest.mark.usefixtures("_no_commands", "_x86_64")
@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"sys/hypervisor/type": "xen"}, "xen"),
        ({"proc/cpuinfo": "flags : fpu hypervisor"}, "by an unnamed hypervisor"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, "QEMU"),
        (
            {
                "proc/cpuinfo": "flags : fpu hypervisor",
                "sys/class/dmi/id/sys_vendor": "Amazon EC2",
                "sys/class/dmi/id/product_name": "m5.large",
            },
            "Amazon EC2 m5.large",
        ),
    ],
)
def test_a_virtual_machine_is_recognised_without_systemd(
    tmp_path: Path, files: dict[str, str], name: str
) -> None:
    build(tmp_path, files)
    assert host.facts(tmp_path)["virtualised"] == name
    assert any(name in warning for warning in host.noise_warnings(tmp_path))


@pytest.mark.usefixtures("_no_commands")
def test_a_system_that_tells_nothing_gives_unknowns(tmp_path: Path) -> None:
    facts = host.facts(tmp_path / "nothing")
    for name in ("cpu", "cpu_flags", "aslr", "memory_bytes", "load_average", "compiler"):
        assert facts[name] == "unknown"
    for name in ("governor", "smt", "mitigations", "transparent_hugepages"):
        assert facts[name] == "not exposed"


@pytest.mark.usefixtures("_no_commands")
def test_unreadable_files_give_unknowns(tmp_path: Path) -> None:
    # Root may read everything, so: folders in place of files, and links to themselves.
    for number, name in enumerate(LAPTOP):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 2:
            path.mkdir()
        else:
            path.symlink_to(path)
    json.dumps(host.facts(tmp_path))
    host.noise_warnings(tmp_path)


@given(texts=st.lists(st.binary(max_size=60), min_size=len(LAPTOP), max_size=len(LAPTOP)))
@settings(max_examples=25, deadline=None)
def test_whatever_the_kernel_writes_facts_can_be_stored(texts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        root = build(Path(folder), LAPTOP)
        for name, text in zip(LAPTOP, texts, strict=True):
            start = LAPTOP[name].encode()[: len(text) % 30]
            (root / name).write_bytes(start + text)
        json.dumps(host.facts(root), allow_nan=False)


# ---- noise ----


def test_pyperfs_advice_is_taken_without_what_is_said_here_already() -> None:
    assert host.pyperf_advice(ADVICE) == [
        "Perf event: Set max sample rate to 1",
        "Linux scheduler: Use isolcpus=<cpu list> kernel parameter to isolate CPUs",
    ]


@pytest.mark.parametrize("report", ["", READY, "Advices\n", ADVICE[: ADVICE.index("CPU Freq")]])
def test_a_report_without_advice_has_none(report: str) -> None:
    assert host.pyperf_advice(report) == []


def test_a_report_that_breaks_off_gives_what_was_there() -> None:
    cut = ADVICE[: ADVICE.index("Power supply")].rstrip()
    assert host.pyperf_advice(cut) == ["Perf event: Set max sample rate to 1"]


def test_advice_of_the_pyperf_that_is_installed_is_found() -> None:
    command = [sys.executable, "-m", "pyperf", "system", "show"]
    report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    said = ("CPU scaling governor", "power cable")
    section = report.partition("Advices\n=======\n\n")[2].partition("\n\n")[0]
    expected = [line for line in section.splitlines() if not any(word in line for word in said)]
    assert host.pyperf_advice(report) == expected
    found = [w for w in host.noise_warnings() if w.startswith("pyperf advises: ")]
    assert found == [f"pyperf advises: {line}" for line in expected]


@pytest.mark.usefixtures("_no_commands")
def test_each_kind_of_noise_is_told_with_its_numbers(laptop: Path) -> None:
    text = "\n".join(host.noise_warnings(laptop))
    assert "900.50 threads" in text
    assert "quota of 1.5 CPUs" in text
    assert "governor is powersave" in text
    assert "On battery" in text
    assert "virtual machine" not in text


@pytest.mark.usefixtures("_no_commands")
def test_each_kind_of_noise_comes_with_a_remedy(laptop: Path) -> None:
    assert all(noise.finding and noise.remedy for noise in host.noises(laptop))


@pytest.mark.usefixtures("_no_commands")
def test_a_quiet_machine_is_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    quiet = {
        "proc/loadavg": "0.05 0.01 0.00 1/89 3635",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
        "sys/class/power_supply/AC/type": "Mains",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Charging",
        "sys/class/power_supply/mouse/type": "Battery",
        "sys/class/power_supply/mouse/scope": "Device",
        "sys/class/power_supply/mouse/status": "Discharging",
        "sys/fs/cgroup/cpu.max": "max 100000",
    }
    assert host.noise_warnings(build(tmp_path, quiet)) == []


def test_a_single_cpu_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert any("Only CPU 3" in warning for warning in host.noise_warnings())


def test_a_pyperf_that_hangs_or_is_missing_costs_only_its_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(host, "_PYPERF_TIMEOUT", 0.1)
    for executable in (str(hangs), "/no/such/python"):
        monkeypatch.setattr(sys, "executable", executable)
        warnings = host.noise_warnings()
        assert not any("pyperf" in warning for warning in warnings)
