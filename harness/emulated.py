"""The emulated machine: a Debian kernel under QEMU's emulator, on the host's file system.

Its CPU has protection keys, whatever the host's has. With `icount` an instruction retired takes one
nanosecond of its time, the kernel's instructions included, so that CLOCK_MONOTONIC counts
instructions: the same for everybody, and nothing about caches or stalls. virtme-ng boots it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import prerequisites

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Series of kernels that differ in what protection keys do in signal delivery.
KERNELS = ("6.12", "6.1")

# Packages of which one depends on the kernel's own, by series; the releases of Debian differ.
_META_PACKAGES = {
    "6.12": ("linux-image-6.12-amd64", "linux-image-amd64"),
    "6.1": ("linux-image-6.1-amd64", "linux-image-amd64"),
}

# -erms, -fsrm: with them each byte of a `rep movsb` counts as an instruction.
_CPU = "max,-erms,-fsrm"
# sleep=off: idle time passes at once. shift=0: an instruction takes 2^0 ns.
_ICOUNT = "-icount shift=0,sleep=off"
# Fixed layouts: with random ones, the interpreter's own counts vary by 3 %. No huge pages: the
# kernel makes them when it likes, and is counted doing so.
_APPEND = (
    "tsc=reliable clocksource=tsc nokaslr norandmaps random.trust_cpu=off "
    "transparent_hugepage=never"
)

_BOOT_LIMIT = 180.0  # seconds for a kernel to boot before its command starts


class EmulationError(Exception):
    """The emulated machine cannot run here: why, and what would make it."""


class _NotBootedError(EmulationError):
    """The machine ended before its command began."""


class TimeLimitError(Exception):
    """The command did not end within its time limit."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that is unpacked and checked.

    Attributes:
        series: A member of KERNELS.
        release: As `uname -r` says.
        image: The bootable file; its modules lie beside it.
    """

    series: str
    release: str
    image: Path


def cache_folder() -> Path:
    """Return the folder in which kernels are kept, `isobench` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "isobench" / "kernels"


def obstacle() -> str:
    """Say why the emulated machine cannot run here, and what would make it; empty if it can.

    Where no password is asked for, it installs the packages that the machine needs.
    """
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return (
            f"the emulated machine needs an x86-64 host, and this is {machine}: "
            "measure protection keys on an x86-64 machine"
        )
    missing = prerequisites.provide(["emulate"])
    if missing:
        return "\n".join(missing)
    if shutil.which("apt-get") is None and not list(cache_folder().glob("*/*/complete")):
        return (
            "the emulated machine gets its kernel with apt-get, which is not here: get the "
            f"kernel with `isobench emulate` on Debian and copy its {cache_folder()} here"
        )
    return ""


# ---- the kernel ----


def kernel(series: str) -> Kernel:
    """Find a kernel in the cache, or download and unpack it there.

    Nothing is installed on the host.

    Raises:
        EmulationError: It cannot be had: no network, no room, no such package.
    """
    folder = cache_folder() / series
    with _lock_file(folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be unpacking the same
        found = _unpacked(series, folder)
        if found is None:
            _download(series, folder)
            found = _unpacked(series, folder)
    if found is None:
        raise EmulationError(f"the kernel unpacked in {folder} is damaged; remove it and try again")
    return found


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / "lock").open("w")
    except OSError as error:
        raise EmulationError(
            f"cannot write {error.filename}, where kernels are kept: {error.strerror}; choose a "
            "cache folder that can be written, with the variable XDG_CACHE_HOME"
        ) from error


def _unpacked(series: str, folder: Path) -> Kernel | None:
    """Find the newest kernel in a cache folder whose image is what was unpacked."""
    for complete in sorted(folder.glob("*/complete"), key=_age):
        image = next((complete.parent / "boot").glob("vmlinuz-*"), None)
        if image is not None and _checksum(image) == complete.read_text().strip():
            return Kernel(series, image.name.removeprefix("vmlinuz-"), image)
    return None


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(series: str, folder: Path) -> None:
    package = _package(series)
    sys.stderr.write(f"Downloading {package}, Debian's kernel {series}, into {folder}\n")
    for old in folder.glob("tmp*"):  # of a download that was interrupted
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        # apt checks the package against the archive's signed checksums. As root it would rather
        # read as another user, who cannot write here; that it does not is no news to anybody.
        sandbox = ["-o", "APT::Sandbox::User=root"] if os.getuid() == 0 else []
        _do(["apt-get", *sandbox, "-qq", "download", package], scratch)
        archive = next(scratch.glob("*.deb"))
        root = scratch / "root"
        _do(["dpkg-deb", "-x", str(archive), str(root)], scratch)
        image = next((root / "boot").glob("vmlinuz-*"))
        # Installing the package would do this. Newer releases have the modules under /usr.
        base = root if (root / "lib" / "modules").is_dir() else root / "usr"
        _do([_depmod(), "-b", str(base), image.name.removeprefix("vmlinuz-")], scratch)
        (root / "complete").write_text(_checksum(image) + "\n")
        shutil.rmtree(folder / package, ignore_errors=True)
        root.replace(folder / package)


def _depmod() -> str:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return shutil.which("depmod", path=path) or "depmod"


def _package(series: str) -> str:
    """Find the package that holds the newest kernel of a series."""
    for attempt in (1, 2):
        for meta in _META_PACKAGES[series]:
            listed = prerequisites.attempt(["apt-cache", "depends", meta])
            found = re.search(rf"Depends: (linux-image-{re.escape(series)}\.\S+)", listed.stdout)
            if found:
                return found[1]
        if attempt == 1 and os.getuid() == 0:
            prerequisites.attempt(["apt-get", "-qq", "update"], timeout=300)
    raise EmulationError(
        f"apt knows no package of Debian's kernel {series}. Run `sudo apt-get update`; on "
        f"distributions without it, unpack linux-image-{series}-amd64 of Debian 12 in "
        f"{cache_folder() / series}"
    )


def _do(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 - programs of our own choosing
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise EmulationError(f"{command[0]} failed with status {done.returncode}: {said[-1]}")


# ---- running a command ----

# Guest folders that do not show the host's: what lies there has to be given one by one.
_HIDDEN = ("/tmp", "/run", "/dev", "/var/tmp")  # noqa: S108 - names, not files

_POLL = 0.1  # seconds


def run(  # noqa: PLR0913 - what a command runs with
    command: Sequence[str],
    *,
    kernel: Kernel,
    icount: bool = False,
    timeout: float = 600.0,
    writable: Sequence[Path] = (),
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
) -> int:
    """Run a command in the emulated machine, in the current folder.

    The host's file system is read-only to it, except for the folders named. It has one CPU, no
    network and no terminal.

    Args:
        command: The program and its arguments.
        kernel: The kernel to boot.
        icount: Count instructions as nanoseconds.
        timeout: Seconds of the host's time for booting and running.
        writable: Folders that it may write.
        stdout: Where its output goes as it comes; by default this process's.
        stderr: Likewise.

    Returns:
        The command's exit status.

    Raises:
        EmulationError: The machine did not start.
        TimeLimitError: The command did not end in time.
    """
    deadline = time.monotonic() + timeout
    folders = [folder.resolve() for folder in writable]

    def once() -> int:
        return _boot_and_run(command, kernel, folders, (stdout, stderr), deadline, icount=icount)

    try:
        return once()
    except _NotBootedError:  # met once, on a busy host, and not explained; nothing was run
        return once()


def _boot_and_run(  # noqa: PLR0913 - what a machine is started with
    command: Sequence[str],
    kernel: Kernel,
    folders: Sequence[Path],
    outputs: tuple[IO[bytes] | None, IO[bytes] | None],
    deadline: float,
    *,
    icount: bool,
) -> int:
    with tempfile.TemporaryDirectory(prefix="isobench-emulated-") as name:
        exchange = Path(name).resolve()
        _write_script(exchange, command, folders)
        machine = _start(exchange, kernel, icount=icount, writable=folders)
        try:
            streams = {
                exchange / "stdout": outputs[0] or sys.stdout.buffer,
                exchange / "stderr": outputs[1] or sys.stderr.buffer,
            }
            return _follow(machine, exchange, streams, deadline)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()


def _shown() -> list[Path]:
    """List the folders that the command needs and that lie where the guest has its own."""
    needed = {Path.cwd().resolve(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    hidden = tuple(f"{name}/" for name in _HIDDEN)
    return [folder for folder in sorted(needed) if str(folder).startswith(hidden)]


def shows(file: Path) -> bool:
    """Say whether a file of this host can be read in the emulated machine."""
    place = file.resolve()
    hidden = any(place.is_relative_to(name) for name in _HIDDEN)
    return not hidden or _is_in_shown(place)


def _is_in_shown(folder: Path) -> bool:
    return any(folder.is_relative_to(shown) for shown in _shown())


def _write_script(exchange: Path, command: Sequence[str], writable: Sequence[Path]) -> None:
    """Write what the guest runs. Output goes to files, for its console is the kernel's as well."""
    environment = {
        "HOME": str(exchange),
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # the same count every time
        "PYTHONDONTWRITEBYTECODE": "1",
        "ISOBENCH_EMULATED": "1",
    }
    assignments = [shlex.quote(f"{name}={value}") for name, value in environment.items()]
    here = shlex.quote(str(exchange))
    # virtme-ng mounts what is read-only last, over writable folders that lie in it.
    hidden = [n for n, folder in enumerate(writable) if _is_in_shown(folder)]
    binds = [f"mount --bind {here}/{n} {shlex.quote(str(writable[n]))}\n" for n in hidden]
    script = f"""\
{"".join(binds)}cd {shlex.quote(str(Path.cwd()))} || exit
touch {here}/started
env -i {" ".join(assignments)} {shlex.join(command)} \\
    </dev/null >{here}/stdout 2>{here}/stderr
echo $? >{here}/ending && mv {here}/ending {here}/status
"""
    (exchange / "script").write_text(script)
    for name in ("stdout", "stderr"):
        (exchange / name).touch()


def _start(
    exchange: Path, kernel: Kernel, *, icount: bool, writable: Sequence[Path]
) -> subprocess.Popen[bytes]:
    vng = Path(sys.executable).parent / "vng"
    folders = [f"--rodir={folder}" for folder in _shown()]
    folders.append(f"--rwdir={exchange}")
    for number, folder in enumerate(writable):
        place = exchange / str(number) if _is_in_shown(folder) else folder
        place.mkdir(exist_ok=True)
        folders.append(f"--rwdir={place}={folder}")
    command = [
        *(sys.executable, str(vng), "--run", str(kernel.image), "--disable-kvm", "--verbose"),
        *("--cpus", "1", "--memory", "3G", "--user", "root", *folders),
        f"--qemu-opts={_ICOUNT if icount else ''} -cpu {_CPU}",
        *("--append", _APPEND, "--exec", f"sh {shlex.quote(str(exchange / 'script'))}"),
    ]
    # vng starts programs that lie beside it.
    path = os.pathsep.join((str(vng.parent), os.environ.get("PATH", os.defpath)))
    master, terminal = pty.openpty()  # QEMU's console wants a terminal for its input
    try:
        with (exchange / "console").open("wb") as console:
            return subprocess.Popen(  # noqa: S603 - our own environment's vng
                command,
                stdin=terminal,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PATH": path},
                pass_fds=[master],  # it stays open as long as the machine
            )
    finally:
        os.close(terminal)
        os.close(master)


def _follow(
    machine: subprocess.Popen[bytes],
    exchange: Path,
    streams: dict[Path, IO[bytes]],
    deadline: float,
) -> int:
    """Pass output on until the command has ended; return its status."""
    status = exchange / "status"
    boot_deadline = time.monotonic() + _BOOT_LIMIT
    with contextlib.ExitStack() as stack:
        files = {stack.enter_context(path.open("rb")): to for path, to in streams.items()}
        while True:
            ended = status.exists() or machine.poll() is not None
            for file, to in files.items():
                if chunk := file.read():
                    to.write(chunk)
                    to.flush()
            if ended:
                break
            if time.monotonic() > deadline:
                raise TimeLimitError("the command did not end in the emulated machine in time")
            if time.monotonic() > boot_deadline and not (exchange / "started").exists():
                raise EmulationError(f"the machine did not boot. {_last_words(exchange)}")
            time.sleep(_POLL)
    if not status.exists():
        error = EmulationError if (exchange / "started").exists() else _NotBootedError
        raise error(f"the machine ended before the command did. {_last_words(exchange)}")
    return int(status.read_text())


def _last_words(exchange: Path) -> str:
    said = (exchange / "console").read_text(errors="replace").strip().splitlines()
    return "Its console's last lines:\n" + "\n".join(said[-15:])
