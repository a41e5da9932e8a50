"""The script is run as the Makefile runs it, on a system made of a few fake commands."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "harness" / "prerequisites.py"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
NOBODY = 1000
ROOT = 0

# In these, {bin} is the fake system's folder, {log} where calls are noted, {cc} the real compiler.
REAL_CC = 'PATH=/usr/local/bin:/usr/bin:/bin exec "{cc}" "$@"'
WITHOUT_SNAPPY = f"""
for flag; do case "$flag" in -lsnappy)
    echo "<stdin>:2:10: fatal error: snappy-c.h: No such file or directory" >&2; exit 1;;
esac; done
{REAL_CC}"""
LOG_CALL = 'echo "$@" >> "{log}"\n'
INSTALL_COMPILER = 'ln -s "{bin}/later" "{bin}/cc"'


class System:
    """A system whose only commands are those put into it."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "calls"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("env", "true", "sh", "ln", "grep"):
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str, script: str) -> Path:
        file = self.bin / name
        marks = {"{bin}": self.bin, "{log}": self.log, "{cc}": shutil.which("cc")}
        for mark, value in marks.items():
            script = script.replace(mark, str(value))
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    def add_compiler(self) -> None:
        self.add("cc", REAL_CC)

    def add_apt_get(self, then: str) -> None:
        """Add an apt-get that notes its call and does this."""
        self.add("apt-get", LOG_CALL + then)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def run(
        self, *arguments: str, uid: int = NOBODY, before: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        program = (
            f"import os, runpy, sys; os.geteuid = lambda: {uid}; sys.argv[0] = {str(SCRIPT)!r}\n"
            f"{before}\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, *arguments],
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def lines_to_type(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("Install: ")]


def test_where_all_is_there_it_says_nothing(system: System) -> None:
    system.add_compiler()
    done = system.run("--group", "build")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_the_right_to_install_it_gives_one_line_to_type(system: System) -> None:
    system.add_apt_get("exit 0")
    done = system.run()
    assert done.returncode == 2
    (line,) = lines_to_type(done)
    assert line.startswith("Install: sudo apt-get install -y gcc libc6-dev")
    assert system.calls == []


def test_sudo_that_wants_a_password_is_not_used(system: System) -> None:
    system.add("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    system.add_apt_get("exit 0")
    done = system.run()
    assert done.returncode == 2
    assert len(lines_to_type(done)) == 1
    assert system.calls == []


@pytest.mark.parametrize("uid", [ROOT, NOBODY])
def test_with_the_right_to_install_it_installs_what_is_missing(system: System, uid: int) -> None:
    system.add("later", REAL_CC)
    system.add("sudo", '[ "$1" = -n ] || exit 1; shift; exec "$@"')
    system.add_apt_get(f'[ "$DEBIAN_FRONTEND" = noninteractive ] && {INSTALL_COMPILER}')
    done = system.run(uid=uid)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Installing with apt-get: gcc libc6-dev")
    assert len(done.stdout.splitlines()) == 1
    (call,) = system.calls
    assert " install -y " in call
    assert " gcc libc6-dev" in call


def test_stale_lists_of_packages_are_updated_once(system: System) -> None:
    system.add("later", REAL_CC)
    system.add_apt_get(
        'case "$*" in *update) exit 0;; esac\n'
        f'grep -q update "{{log}}" && exec {INSTALL_COMPILER}\n'
        'echo "E: Unable to locate package gcc" >&2; exit 100'
    )
    done = system.run(uid=ROOT)
    assert done.returncode == 0
    assert [call.split()[-1] == "update" for call in system.calls] == [False, True, False]


def test_apt_without_a_network_is_reported_with_what_it_said(system: System) -> None:
    system.add_apt_get('echo "E: Failed to fetch gcc: Temporary failure resolving" >&2; exit 100')
    done = system.run(uid=ROOT)
    assert done.returncode == 2
    assert "Temporary failure resolving" in done.stderr
    (line,) = lines_to_type(done)
    assert line.startswith("Install: apt-get install -y gcc libc6-dev")


def test_an_installation_that_does_not_help_is_not_repeated(system: System) -> None:
    system.add_apt_get("exit 0")
    done = system.run(uid=ROOT)
    assert done.returncode == 2
    assert "did not help" in done.stderr
    assert len(system.calls) == 1


def test_a_header_that_does_not_compile_is_missing(system: System) -> None:
    system.add("cc", WITHOUT_SNAPPY)
    system.add_apt_get("exit 0")
    done = system.run()
    assert done.returncode == 2
    assert "snappy-c.h: No such file" in done.stderr
    assert lines_to_type(done) == ["Install: sudo apt-get install -y libsnappy-dev"]


def test_a_libpng_that_does_not_compile_is_named_with_its_package(system: System) -> None:
    system.add("cc", WITHOUT_SNAPPY.replace("-lsnappy", "-lpng").replace("snappy-c.h", "png.h"))
    system.add_apt_get("exit 0")
    done = system.run()
    assert done.returncode == 2
    assert "libpng with its C header, png.h" in done.stderr
    assert lines_to_type(done) == ["Install: sudo apt-get install -y libpng-dev"]


WITHOUT_SECCOMP = WITHOUT_SNAPPY.replace("-lsnappy", "-lseccomp").replace("snappy-c.h", "seccomp.h")


def test_what_can_be_done_without_is_told_and_stops_nothing(system: System) -> None:
    system.add("cc", WITHOUT_SECCOMP)
    system.add_apt_get("exit 0")
    done = system.run()
    assert done.returncode == 0
    assert "Without the hardened process walls" in done.stderr
    assert "seccomp.h: No such file" in done.stderr
    assert "To have them: sudo apt-get install -y libseccomp-dev" in done.stderr
    assert system.calls == []


def test_what_can_be_done_without_is_installed_where_that_is_possible(system: System) -> None:
    system.add("cc", WITHOUT_SECCOMP)
    system.add("later", REAL_CC)
    system.add_apt_get('rm "{bin}/cc"; ' + INSTALL_COMPILER)
    (system.bin / "rm").symlink_to(str(shutil.which("rm")))
    done = system.run(uid=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = system.calls
    assert call.endswith(" libseccomp-dev")


def test_an_installation_that_fails_for_it_stops_nothing(system: System) -> None:
    system.add("cc", WITHOUT_SECCOMP)
    system.add_apt_get('echo "E: Failed to fetch libseccomp" >&2; exit 100')
    done = system.run(uid=ROOT)
    assert done.returncode == 0
    assert "To have them: apt-get install -y libseccomp-dev" in done.stderr


def test_a_prefix_that_the_build_is_told_of_is_looked_at(system: System) -> None:
    # As on a cluster: snappy in a folder of one's own.
    system.add("cc", LOG_CALL + REAL_CC)
    system.run(CMAKE_PREFIX_PATH="/opt/mine")
    snappy = next(call for call in system.calls if "-lsnappy" in call)
    assert "-I/opt/mine/include" in snappy
    assert "-L/opt/mine/lib" in snappy


def test_a_compiler_that_crashes_is_missing(system: System) -> None:
    system.add("cc", "kill -SEGV $$")
    done = system.run()
    assert done.returncode == 2
    assert "signal 11" in done.stderr


@pytest.mark.parametrize("compiler", ["no-such-compiler", "no-such-compiler -m32 '"])
def test_a_compiler_named_by_the_user_is_not_replaced(system: System, compiler: str) -> None:
    system.add_compiler()
    system.add_apt_get("exit 0")
    done = system.run(uid=ROOT, CC=compiler)
    assert done.returncode == 2
    assert "Unset CC" in done.stderr
    assert system.calls == []


@pytest.mark.parametrize(
    ("manager", "line"),
    [
        ("dnf", "Install: sudo dnf install -y snappy-devel"),
        ("pacman", "Install: sudo pacman -S --needed snappy"),
    ],
)
def test_other_distributions_get_their_own_line(system: System, manager: str, line: str) -> None:
    system.add("cc", WITHOUT_SNAPPY)
    system.add(manager, "exit 1")
    done = system.run()
    assert done.returncode == 2
    assert lines_to_type(done) == [line]


def test_without_a_known_package_manager_it_tells_what_the_thing_is_called(system: System) -> None:
    system.add("cc", WITHOUT_SNAPPY)
    done = system.run()
    assert done.returncode == 2
    for name in ("libsnappy-dev (Debian)", "snappy-devel (Fedora)", "snappy (Arch)"):
        assert name in done.stderr


def test_two_groups_make_one_line(system: System) -> None:
    system.add_apt_get("exit 0")
    done = system.run("--group", "build", "--group", "count")
    assert done.returncode == 2
    (line,) = lines_to_type(done)
    assert "gcc libc6-dev" in line
    assert line.endswith("strace valgrind")


def test_a_tool_that_is_not_allowed_to_work_is_not_installed_again(system: System) -> None:
    system.add("strace", "echo 'strace: PTRACE_TRACEME: Operation not permitted' >&2; exit 1")
    system.add("valgrind", "exit 0")
    system.add_apt_get("exit 0")
    done = system.run("--group", "count", uid=ROOT)
    assert done.returncode == 2
    assert "Operation not permitted" in done.stderr
    assert "--cap-add=SYS_PTRACE" in done.stderr
    assert lines_to_type(done) == []
    assert system.calls == []


PYTHON_WITHOUT_VENV = "echo \"ModuleNotFoundError: No module named 'ensurepip'\" >&2; exit 1"


def test_the_systems_python_gets_its_missing_parts_from_packages(system: System) -> None:
    system.add_compiler()
    system.add_apt_get("exit 0")
    python = system.add("fake-python", PYTHON_WITHOUT_VENV)
    done = system.run(before=f"sys.executable = {str(python)!r}; sys.base_prefix = '/usr'")
    assert lines_to_type(done) == [f"Install: sudo apt-get install -y python{VERSION}-venv"]


def test_another_python_is_not_completed_by_packages(system: System) -> None:
    system.add_compiler()
    system.add_apt_get("exit 0")
    python = system.add("fake-python", PYTHON_WITHOUT_VENV)
    done = system.run(before=f"sys.executable = {str(python)!r}; sys.base_prefix = '/opt/mine'")
    assert done.returncode == 2
    assert "make PYTHON=" in done.stderr
    assert lines_to_type(done) == []


def test_without_a_place_for_temporary_files_it_says_so(system: System) -> None:
    done = system.run(before="import tempfile; tempfile.tempdir = '/no/such/folder'")
    assert done.returncode == 2
    assert "TMPDIR" in done.stderr


def test_an_older_python_is_told_which_one_is_needed(system: System) -> None:
    system.add("python3.12", "exit 0")
    done = system.run(before="sys.version_info = (3, 8, 10, 'final', 0)")
    assert done.returncode == 2
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is 3.8.10" in done.stderr
    assert "make PYTHON=python3.12" in done.stderr


def test_an_older_python_can_read_the_script_that_refuses_it() -> None:
    # 3.7 is the oldest syntax that every supported Python can still check.
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
