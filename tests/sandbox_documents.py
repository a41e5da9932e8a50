"""What documents and examples show of `backends.Sandbox`, and what it says when it is run."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends import protection_keys

if TYPE_CHECKING:
    from backends.contract import Backend

PROJECT = Path(__file__).parent.parent
EXAMPLES = PROJECT / "examples" / "sandbox"
SHOWN = "sandcrust-pipe"  # the backend that documents name


def blocks(document: Path) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


GUIDE = blocks(PROJECT / "docs" / "sandbox.md")
# The first block of the guide, and what the README has of the kind.
SNIPPETS = [GUIDE[0], *(text for text in blocks(PROJECT / "README.md") if "Sandbox(" in text)]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )


def run_copied(folder: Path, text: str, backend: Backend) -> subprocess.CompletedProcess[str]:
    """Run text that was copied into an empty file and changed in one word."""
    if f'backend="{SHOWN}", timeout' in text and _is_wall_without_limit(backend):
        text = re.sub(r", timeout=[0-9.]+", "", text)
    file = folder / "copied.py"
    file.write_text(text.replace(f'backend="{SHOWN}"', f'backend="{backend.name}"'))
    return run(file)


def _is_wall_without_limit(backend: Backend) -> bool:
    return backend.kind == "wall" and not backend.guarantees.time_limit


def check_snippet(snippet: str, backend: Backend, folder: Path) -> None:
    done = run_copied(folder, snippet, backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1345 bytes\n"
    assert ("RuntimeWarning" in done.stderr) == (backend.kind == "baseline")


def check_guide(backend: Backend, folder: Path) -> None:
    done = run_copied(folder, "\n".join(GUIDE), backend)
    if backend.kind == "baseline":
        assert done.returncode == -signal.SIGSEGV  # the broken library, and no wall
        return
    assert done.returncode == 0, done.stderr
    assert "scribble died of SIGSEGV" in done.stdout
    assert "printf takes a variable number of arguments" in done.stdout
    assert "atexit, parameter function: " in done.stdout
    here = protection_keys.availability()
    assert ("the secret was read once that was granted" in done.stdout) == here.available
    assert here.available or here.remedy in done.stdout


SAID = {
    "snappy_compress": [
        "22000 bytes, compressed 1080",
        "the same again: True",
        "snappy_uncompress returned error code 1",
    ],
    "zlib_roundtrip": ["zlib 1.", "the same again: True", "uncompress returned error code -3"],
    "png_decode": [
        "320 × 200, 256000 bytes",
        "last pixel: (63, 199, 0, 255)",
        "decode returned error code 1",
    ],
    "broken_library": [
        "scribble died of SIGSEGV",
        "1 + 2 = 3",
        "instead of an exception: 'it misbehaved'",
        "lie gave a malformed answer: length says 1000000",
        "3 + 4 = 7",
    ],
}


def check_example(name: str, backend: Backend) -> None:
    done = run(EXAMPLES / f"{name}.py", "--backend", backend.name)
    if "png.h" in done.stderr:
        pytest.skip("libpng's header is not there: libpng-dev")
    if name == "broken_library" and backend.kind == "baseline":
        assert done.returncode == -signal.SIGSEGV
        return
    assert done.returncode == 0, done.stderr
    for text in SAID[name]:
        assert text in done.stdout
    if name == "broken_library":
        hung = "hang passed its time limit" in done.stdout
        assert hung == backend.guarantees.time_limit
