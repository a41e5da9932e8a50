from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from backends import command

SCRIPT = Path(sysconfig.get_path("scripts"), "isobench")


@pytest.mark.parametrize("place", [".", "down", "very/far/away/from/what/is/typed/here"])
def test_the_command_can_be_pasted_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    for folder in (tmp_path / place, SCRIPT.parent, SCRIPT.parent.parent):
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        pasted = [*shlex.split(command.typed()), "--version"]
        done = subprocess.run(pasted, capture_output=True, text=True)
        assert done.stdout.startswith("isobench, version"), command.typed() + done.stderr


def test_a_command_in_a_folder_with_spaces_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "two words"
    folder.mkdir()
    (folder / "isobench").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))
    assert shlex.split(command.typed()) == ["two words/isobench"]


def test_a_command_on_the_path_has_its_bare_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(SCRIPT.parent))
    assert command.typed() == "isobench"


def test_another_environments_command_on_the_path_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SCRIPT, tmp_path / "isobench")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.typed() != "isobench"


def test_without_a_script_it_is_a_module_of_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert command.typed() == f"{shlex.quote(sys.executable)} -m harness"


def test_messages_name_the_command_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "typed", lambda: "bin/isobench")
    once = command.as_typed("`isobench run` in /tmp/isobench run: isobench --help; isobench.")
    assert once == "`bin/isobench run` in /tmp/isobench run: bin/isobench --help; isobench."
    assert command.as_typed(once) == once
