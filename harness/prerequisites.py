"""What has to be on the system before the project can be built or its work be counted.

Run by the Makefile with the system's own Python, before any environment exists: the standard
library only, and syntax that an older Python can read far enough to be told that it is too old.

Everything is found out by trying: a header that is there but does not compile is missing.

Exit codes: 0, all is there; 2, something is missing and the message says what to do.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


def _refuse_old_python() -> None:
    """Say which Python is needed, and which of those here would do."""
    here = ".".join(str(part) for part in sys.version_info[:3])
    sys.stderr.write(f"isobench needs Python 3.11 or newer; {sys.executable} is {here}.\n")
    for name in [f"python3.{minor}" for minor in range(19, 10, -1)]:
        # Version managers put commands on the path that only say that there is no such version.
        trial = [name, "-c", ""]
        if shutil.which(name) and subprocess.call(trial, stderr=subprocess.DEVNULL) == 0:  # noqa: S603
            sys.stderr.write(f"{name} is here, too: make PYTHON={name}\n")
            break
    sys.exit(2)


# A test for the reader's Python, not for the one that the linter assumes.
if sys.version_info < (3, 11):  # noqa: UP036
    _refuse_old_python()

GROUPS = ("build", "count", "emulate")

_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

#: What a thing is called in each package manager. The first six are for building.
PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "compiler": {
        "apt-get": ("gcc", "libc6-dev"),
        "dnf": ("gcc", "glibc-devel"),
        "pacman": ("gcc",),
    },
    "headers": {
        "apt-get": (f"python{_VERSION}-dev",),
        "dnf": (f"python{_VERSION}-devel",),
        "pacman": ("python",),
    },
    "snappy": {
        "apt-get": ("libsnappy-dev",),
        "dnf": ("snappy-devel",),
        "pacman": ("snappy",),
    },
    "png": {
        "apt-get": ("libpng-dev",),
        "dnf": ("libpng-devel",),
        "pacman": ("libpng",),
    },
    "seccomp": {
        "apt-get": ("libseccomp-dev",),
        "dnf": ("libseccomp-devel",),
        "pacman": ("libseccomp",),
    },
    "venv": {
        "apt-get": (f"python{_VERSION}-venv",),
        "dnf": (f"python{_VERSION}-libs",),
        "pacman": ("python",),
    },
    "strace": {"apt-get": ("strace",), "dnf": ("strace",), "pacman": ("strace",)},
    "valgrind": {"apt-get": ("valgrind",), "dnf": ("valgrind",), "pacman": ("valgrind",)},
    "qemu-system-x86_64": {
        "apt-get": ("qemu-system-x86",),
        "dnf": ("qemu-system-x86",),
        "pacman": ("qemu-system-x86",),
    },
    "busybox": {"apt-get": ("busybox-static",), "dnf": ("busybox",), "pacman": ("busybox",)},
    "depmod": {"apt-get": ("kmod",), "dnf": ("kmod",), "pacman": ("kmod",)},
}

_INSTALL = {
    "apt-get": "apt-get install -y",
    "dnf": "dnf install -y",
    "pacman": "pacman -S --needed",
}

_SNAPPY_PROGRAM = """
#include <snappy-c.h>
int main(void) { return snappy_max_compressed_length(0) == 0; }
"""

_PNG_PROGRAM = """
#include <png.h>
int main(void) { return png_access_version_number() == 0; }
"""

_SECCOMP_PROGRAM = """
#include <seccomp.h>
int main(void) { return seccomp_version() == 0; }
"""


class Outcome(NamedTuple):
    """How a command ended: whether with status 0, and what it wrote."""

    ok: bool
    stdout: str
    stderr: str


class Lack(NamedTuple):
    """Something that is not here, or is and does not work.

    Attributes:
        what: It, in words.
        says: What trying it said, in one line; may be empty.
        key: Its row in `PACKAGES`; empty if no package would help.
        remedy: What to do where no package would help.
        without: What there will not be, where all else works without it; empty if nothing does.
    """

    what: str
    says: str
    key: str = ""
    remedy: str = ""
    without: str = ""


def attempt(command: Sequence[str], text: str = "", *, timeout: float | None = 60.0) -> Outcome:
    """Run a command in the C locale and without a terminal; a failure is an outcome, not an error.

    Args:
        command: The program and its arguments.
        text: Its standard input.
        timeout: Limit in seconds; None for none.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603 - every caller passes a list, and no shell reads it
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(ok=False, stdout="", stderr=f"{command[0]} did not end in {timeout:g} s")
    except OSError as error:
        return Outcome(ok=False, stdout="", stderr=f"{command[0]}: {error.strerror or error}")
    stderr = done.stderr
    if done.returncode and not stderr.strip():
        status = done.returncode
        how = f"with status {status}" if status > 0 else f"by signal {-status}"
        stderr = f"{command[0]} ended {how}"
    return Outcome(done.returncode == 0, done.stdout, stderr)


# ---- trying ----


def lacking(groups: Iterable[str]) -> list[Lack]:
    """Try everything in these groups and list what is missing.

    Args:
        groups: Of `GROUPS`: `build`, what building needs; `count`, what counting system calls and
            instructions needs; `emulate`, what the emulated machine needs.

    Raises:
        OSError: There is no place for temporary files.
    """
    wanted = set(groups)
    lacks: list[Lack | None] = []
    if "build" in wanted:
        with tempfile.TemporaryDirectory(prefix="isobench-") as folder:
            lacks += _try_building(Path(folder) / "program")
        lacks.append(_try_venv())
    if "count" in wanted:
        lacks += [_try_strace(), _try_valgrind()]
    if "emulate" in wanted:
        lacks += [_look_for(name) for name in ("qemu-system-x86_64", "busybox", "depmod")]
    return [lack for lack in lacks if lack is not None]


def _try_building(executable: Path) -> list[Lack | None]:
    """Compile and link, with the compiler that CMake would take, what the project's C needs."""
    named = os.environ.get("CC", "").split()
    names = named[:1] or ["cc", "gcc", "clang"]
    found = [name for name in names if shutil.which(name)]
    compiler = [*(named or found[:1] or names[:1]), "-x", "c", "-"]
    output = ["-o", str(executable)]

    smallest = "#include <stdio.h>\nint main(void) { return 0; }\n"
    trial = attempt([*compiler, *output], smallest) if found else None
    if trial is None or not trial.ok:
        says = _gist(trial.stderr) if trial else f"there is no {', no '.join(names)}"
        lack = Lack("a C compiler that compiles and links", says, "compiler")
        if named:
            remedy = "Unset CC, or set it to a C compiler that works."
            lack = Lack(f"a C compiler: CC is {' '.join(named)!r}", says, remedy=remedy)
        return [lack, *_look_for_headers()]

    headers = attempt(
        [*compiler, "-fsyntax-only", *(f"-I{path}" for path in _python_includes())],
        "#include <Python.h>\n",
    )
    # What CMake's find_library and find_path are told, the compiler has to be told in its words.
    prefixes = [p for p in os.environ.get("CMAKE_PREFIX_PATH", "").split(os.pathsep) if p]
    places = [flag for p in prefixes for flag in (f"-I{p}/include", f"-L{p}/lib")]
    snappy = attempt([*compiler, *places, *output, "-lsnappy"], _SNAPPY_PROGRAM)
    png = attempt([*compiler, *places, *output, "-lpng"], _PNG_PROGRAM)
    seccomp = attempt([*compiler, *places, *output, "-lseccomp"], _SECCOMP_PROGRAM)
    return [
        None if headers.ok else _no_headers(_gist(headers.stderr)),
        None if snappy.ok else _no_snappy(_gist(snappy.stderr)),
        None if png.ok else _no_png(_gist(png.stderr)),
        None if seccomp.ok else _no_seccomp(_gist(seccomp.stderr)),
    ]


def _look_for_headers() -> list[Lack | None]:
    """Look for the headers as files while there is no compiler to try them with.

    So that the one line to type names all that is missing, and no second one follows.
    """
    system = [Path("/usr/include"), Path("/usr/local/include")]
    python = any((Path(path) / "Python.h").is_file() for path in _python_includes())
    snappy = any((path / "snappy-c.h").is_file() for path in system)
    png = any((path / "png.h").is_file() for path in system)
    seccomp = any((path / "seccomp.h").is_file() for path in system)
    return [
        None if python else _no_headers(""),
        None if snappy else _no_snappy(""),
        None if png else _no_png(""),
        None if seccomp else _no_seccomp(""),
    ]


def _python_includes() -> list[str]:
    paths = sysconfig.get_paths()
    return sorted({paths["include"], paths["platinclude"]})


def _no_headers(says: str) -> Lack:
    return _python_part(f"Python {_VERSION}'s C header, Python.h", says, "headers")


def _no_snappy(says: str) -> Lack:
    return Lack("libsnappy with its C header, snappy-c.h", says, "snappy")


def _no_png(says: str) -> Lack:
    return Lack("libpng with its C header, png.h", says, "png")


def _no_seccomp(says: str) -> Lack:
    what = "libseccomp with its C header, seccomp.h"
    return Lack(what, says, "seccomp", without="the hardened process walls")


def _try_venv() -> Lack | None:
    # In a process of its own: this one would remember after an installation that it was not there.
    trial = attempt([sys.executable, "-I", "-c", "import venv, ensurepip; ensurepip.version()"])
    if trial.ok:
        return None
    return _python_part(f"Python {_VERSION}'s venv and ensurepip", _gist(trial.stderr), "venv")


def _python_part(what: str, says: str, key: str) -> Lack:
    """Tell of a part of Python: packages complete the system's own, and no other."""
    if sys.base_prefix == "/usr":
        return Lack(what, says, key)
    remedy = f"{sys.executable} lacks it; take a Python that has it: make PYTHON=/usr/bin/python3"
    return Lack(what, says, remedy=remedy)


def _try_strace() -> Lack | None:
    if not shutil.which("strace"):
        return Lack("strace", "", "strace")
    trial = attempt(["strace", "-f", "-o", os.devnull, "true"], timeout=20)
    if trial.ok:
        return None
    return Lack(
        "strace, which is here but cannot trace",
        _gist(trial.stderr),
        remedy="Allow ptrace: start a container with --cap-add=SYS_PTRACE; on a machine, see "
        "/proc/sys/kernel/yama/ptrace_scope.",
    )


def _try_valgrind() -> Lack | None:
    if not shutil.which("valgrind"):
        return Lack("valgrind", "", "valgrind")
    trial = attempt(["valgrind", "-q", "--tool=none", "true"], timeout=20)
    if trial.ok:
        return None
    return Lack(
        "valgrind, which is here but does not run",
        _gist(trial.stderr),
        remedy="See what `valgrind --tool=none true` says; a newer valgrind may know this CPU.",
    )


def _look_for(program: str) -> Lack | None:
    # depmod is for the administrator, whose programs are not on everybody's path.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return None if shutil.which(program, path=path) else Lack(program, "", program)


def _gist(text: str) -> str:
    """Take the line that tells most of what a tool wrote: its first error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or line.startswith("E: ")]
    return (errors or lines[-1:] or [""])[0]


# ---- providing ----


def packages_for(lacks: Iterable[Lack], manager: str) -> list[str]:
    """List the packages that bring these things, each once, as this package manager calls them."""
    names = [name for lack in lacks if lack.key for name in PACKAGES[lack.key][manager]]
    return list(dict.fromkeys(names))


def line_to_type(lacks: Sequence[Lack]) -> str:
    """Give the one line that installs these things here; empty if no package would."""
    manager = next((name for name in _INSTALL if shutil.which(name)), "")
    if not manager:
        rows = [PACKAGES[lack.key] for lack in lacks if lack.key]
        return "; ".join(
            f"{'+'.join(row['apt-get'])} (Debian), {'+'.join(row['dnf'])} (Fedora), "
            f"{'+'.join(row['pacman'])} (Arch)"
            for row in rows
        )
    packages = packages_for(lacks, manager)
    if not packages:
        return ""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}{_INSTALL[manager]} {' '.join(packages)}"


def _apt_get() -> list[str]:
    """Give the command that runs apt-get with the right to install; empty if there is no way."""
    if not shutil.which("apt-get"):
        return []
    if os.geteuid() == 0:
        return ["apt-get"]
    if shutil.which("sudo") and attempt(["sudo", "-n", "true"], timeout=20).ok:
        # sudo drops the environment.
        variables = ["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"]
        return ["sudo", "-n", "env", *variables, "apt-get"]
    return []


def _install(apt_get: Sequence[str], packages: Sequence[str]) -> str:
    """Install Debian packages.

    Returns:
        Why it failed, in one line; empty if it did not.
    """
    sys.stdout.write(f"Installing with apt-get: {' '.join(packages)}\n")
    sys.stdout.flush()
    # Another apt may be at work, such as the nightly upgrade: wait for it, in seconds.
    options = ["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=1"]
    command = [*apt_get, *options, "install", "-y", "--no-install-recommends", *packages]
    # No limit of time: an installation that is killed leaves the system half configured.
    outcome = attempt(command, timeout=None)
    stale = ("Unable to locate package", "no installation candidate", "nable to fetch", "to fetch")
    if not outcome.ok and any(sign in outcome.stderr for sign in stale):
        sys.stdout.write("The lists of packages are out of date: apt-get update\n")
        sys.stdout.flush()
        attempt([*apt_get, *options, "update"], timeout=None)
        outcome = attempt(command, timeout=None)
    if outcome.ok:
        return ""
    return _gist(outcome.stderr) or "it did not say why"


def provide(groups: Sequence[str]) -> list[str]:
    """Try, install what is missing if that takes no password, and try again.

    What can be done without is only told of, on standard error.

    Returns:
        What is to be told to the user, in lines; none if all that is needed is there.

    Raises:
        OSError: There is no place for temporary files.
    """
    lacks = lacking(groups)
    installed: set[str] = set()
    failure = ""
    # A second round: with a compiler there, a header may turn out not to compile.
    while not failure:
        packages = packages_for(lacks, "apt-get")
        if installed.issuperset(packages):
            break
        apt_get = _apt_get()
        if not apt_get:
            break
        failure = _install(apt_get, packages)
        installed.update(packages)
        lacks = lacking(groups)
    needed = [lack for lack in lacks if not lack.without]
    for lack in lacks if not needed else []:
        says = f" ({lack.says})" if lack.says else ""
        line = line_to_type([lack])
        sys.stderr.write(f"Without {lack.without}, for want of {lack.what}{says}.\n")
        sys.stderr.write(f"To have them: {line}\n" if line else "")
    if not needed:
        return []

    lines = [f"apt-get could not install them: {failure}"] if failure else []
    lines += [f"Missing: {lack.what}{f' ({lack.says})' if lack.says else ''}" for lack in lacks]
    lines += [lack.remedy for lack in lacks if lack.remedy]
    if failure or not installed:
        line = line_to_type(lacks)
        lines += [f"Install: {line}"] if line else []
    elif any(lack.key for lack in lacks):
        names = " ".join(sorted(installed))
        lines.append(f"Installing {names} did not help; what is wrong is said above.")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Provide what the named groups need, and return the exit code."""
    parser = argparse.ArgumentParser(description="Find what is missing; install it or say how.")
    parser.add_argument(
        "--group", action="append", choices=GROUPS, help="may be repeated; build if not given"
    )
    groups: list[str] = parser.parse_args(arguments).group or ["build"]
    try:
        lines = provide(groups)
    except OSError as error:
        lines = [
            f"There is no place for temporary files: {error}",
            "Set TMPDIR to a directory that can be written and has room.",
        ]
    except KeyboardInterrupt:
        lines = ["Interrupted before all was tried: run it again."]
    sys.stderr.writelines(f"{line}\n" for line in lines)
    return 2 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
