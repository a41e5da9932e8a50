"""The emulated machine. Each test boots one, which takes about 20 seconds."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import emulated, prerequisites

# The first of them may have to install QEMU and download kernels.
pytestmark = pytest.mark.timeout(1200)

x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the emulated machine needs an x86-64 host"
)


@pytest.fixture(scope="session")
def machine() -> emulated.Kernel:
    obstacle = emulated.obstacle()
    if obstacle:
        # Where the project itself is tested, nothing may be left out.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
    return emulated.kernel("6.12")


def isobench(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "emulate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@x86
@pytest.mark.parametrize("series", emulated.KERNELS)
@pytest.mark.usefixtures("machine")
def test_it_has_protection_keys_and_returns_output_and_status(series: str) -> None:
    program = "uname -r; grep -qw ospke /proc/cpuinfo && echo keys; echo oops >&2; exit 7"
    done = isobench("--kernel", series, "--", "sh", "-c", program)
    assert done.returncode == 7, done.stderr
    release, keys = done.stdout.split()
    assert release.startswith(f"{series}.")
    assert keys == "keys"
    assert "oops" in done.stderr


@x86
def test_icount_counts_the_same_instructions_twice(machine: emulated.Kernel) -> None:
    from harness import bounds

    out = io.BytesIO()
    command = bounds._standalone("direct", 100_000, batches=4)
    assert emulated.run(command, kernel=machine, icount=True, stdout=out) == 0
    counts = [int(line) for line in out.getvalue().split()]
    assert max(counts) / min(counts) < 1.02  # a timer's tick may fall into one
    assert 15 < min(counts) / 100_000 < 25


@x86
def test_the_hosts_files_are_read_only_but_for_those_named(
    machine: emulated.Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder that the guest would otherwise hide
    mine = tmp_path / "mine"
    mine.mkdir()
    out, err = io.BytesIO(), io.BytesIO()
    program = f"echo yes > {mine}/file; echo no > {Path.cwd()}/unwanted; echo done"
    emulated.run(["sh", "-c", program], kernel=machine, writable=[mine], stdout=out, stderr=err)
    assert (mine / "file").read_text() == "yes\n"
    assert not Path("unwanted").exists()
    assert b"done" in out.getvalue()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []


@x86
@pytest.mark.usefixtures("machine")
def test_a_time_limit_ends_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # its own are told by it from others' machines
    begin = time.monotonic()
    done = isobench("--timeout", "30", "--", "sleep", "1000")
    assert done.returncode == 124
    assert "30 s" in done.stderr
    assert time.monotonic() - begin < 60
    mine = f"{tmp_path}/isobench-emulated-"
    machines = [p for p in psutil.process_iter() if mine in " ".join(_words(p))]
    assert machines == []


RUNS = "touch started; echo 7 > status"
BREAKS_OFF = "touch started"


@pytest.mark.parametrize(
    ("machines", "status"), [(["", ""], None), (["", RUNS], 7), ([BREAKS_OFF], None)]
)
def test_a_machine_that_ends_while_it_boots_is_started_once_more(
    machines: list[str], status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def start(exchange: Path, *_: object, **__: object) -> subprocess.Popen[bytes]:
        begun.append(exchange)
        (exchange / "console").write_text("a panic")
        script = machines[len(begun) - 1]
        return subprocess.Popen(["/bin/sh", "-c", script], cwd=exchange, start_new_session=True)

    monkeypatch.setattr(emulated, "_start", start)
    kernel = emulated.Kernel("6.12", "6.12", Path("/nowhere"))
    if status is None:
        with pytest.raises(emulated.EmulationError, match="a panic"):
            emulated.run(["true"], kernel=kernel)
    else:
        assert emulated.run(["true"], kernel=kernel) == status
    assert len(begun) == len(machines)
    assert not any(folder.exists() for folder in begun)


def test_a_host_that_cannot_emulate_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "x86-64 host, and this is aarch64" in emulated.obstacle()


@x86
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "provide", lambda groups: ["Missing: qemu", "Install: it"])
    assert emulated.obstacle() == "Missing: qemu\nInstall: it"


@x86
def test_a_kernel_that_was_changed_is_not_booted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = emulated.cache_folder() / "6.12"
    boot = folder / "linux-image-6.12.0" / "boot"
    boot.mkdir(parents=True)
    (boot / "vmlinuz-6.12.0").write_bytes(b"kernel")
    (boot.parent / "complete").write_text(emulated._checksum(boot / "vmlinuz-6.12.0"))
    assert emulated.kernel("6.12").release == "6.12.0"
    (boot / "vmlinuz-6.12.0").write_bytes(b"another")
    monkeypatch.setattr(emulated, "_download", lambda series, folder: None)
    with pytest.raises(emulated.EmulationError, match="damaged"):
        emulated.kernel("6.12")


@x86
def test_no_network_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        prerequisites, "attempt", lambda *_, **__: prerequisites.Outcome(False, "", "")
    )
    with pytest.raises(emulated.EmulationError, match="apt-get update"):
        emulated.kernel("6.12")
