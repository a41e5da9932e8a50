"""The folder of a run: `run.json` about the plan and the host, `benchmarks.json` as pyperf's own.

Both are replaced whole, so that whatever happens the old or the new content is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from harness.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_FILE = "run.json"
BENCHMARKS_FILE = "benchmarks.json"

#: Version of the layout of a run's files.
FORMAT = 1

_LOCK_PATIENCE = 2.0  # seconds


class _Versioned(Protocol):
    @property
    def format(self) -> int: ...


Stored = TypeVar("Stored", bound=_Versioned)


class StorageError(Exception):
    """A run's folder cannot be used: which file, what is wrong with it, what to do."""


class Failure(msgspec.Struct, frozen=True):
    """A cell that gave no number, and why."""

    cell: str
    error: str


class RunRecord(msgspec.Struct, kw_only=True):
    """What is known of a run besides its numbers.

    Attributes:
        id: Name of the run.
        plan: What it does.
        host: Facts about the machine; see `harness.host.facts`.
        warnings: What makes this machine's numbers noisy.
        started: UTC, ISO 8601.
        finished: Likewise, or empty while cells are missing.
        failures: Cells that gave no number.
        format: Version of this layout.
    """

    id: str
    plan: Plan
    host: dict[str, Any]
    warnings: list[str]
    started: str
    finished: str = ""
    failures: list[Failure] = msgspec.field(default_factory=list)
    format: int = FORMAT


def read_record(folder: Path) -> RunRecord:
    """Read a run's record.

    Raises:
        StorageError: It is missing, truncated or not this project's.
    """
    return read(
        folder / RUN_FILE,
        RunRecord,
        what="a run's record",
        missing=f"{folder} is not a run: it has no {RUN_FILE}. "
        "Name a folder that `isobench run` made",
        again="measure again with `isobench run`",
    )


def read(  # noqa: PLR0913 - what is said of a file
    path: Path, kind: type[Stored], *, what: str, missing: str, again: str, version: int = FORMAT
) -> Stored:
    """Read a JSON file whose layout has a version.

    Args:
        path: The file.
        kind: What it holds.
        what: The same in words.
        missing: What to say when there is none.
        again: How it is made once more.
        version: Of the layout, and of what is meant by it.

    Raises:
        StorageError: It is missing, truncated or not this project's.
    """
    if path.is_fifo():  # reading it would wait for somebody to write
        raise StorageError(f"{path} is a pipe, not a file. Restore it, or {again}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StorageError(missing) from None
    except NotADirectoryError:
        raise StorageError(f"{path.parent} is a file. Name the folder that it is in") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    try:
        stored = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(
            f"{path} is truncated or not {what} ({error}). Restore it, or {again}"
        ) from error
    if stored.format != version:
        raise StorageError(
            f"{path} has format {stored.format}, and this version reads {version}. "
            "Read it with the version that wrote it"
        )
    return stored


def write_record(folder: Path, record: RunRecord) -> None:
    """Write a run's record.

    Raises:
        OSError: It cannot be written; the old one is as it was.
    """
    data = msgspec.json.format(msgspec.json.encode(record), indent=2)
    with replacing(folder / RUN_FILE) as temporary:
        temporary.write_bytes(data + b"\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write to, which takes the place of `path` when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=path.suffix)
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from running in this folder.

    Raises:
        StorageError: Another one does.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The lock of a run that was killed lasts until the last of its processes has ended.
        deadline = time.monotonic() + _LOCK_PATIENCE
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise StorageError(
                    f"another process is measuring in {folder}. Wait for it, or stop it"
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def latest_unfinished(parent: Path) -> Path:
    """Find the latest run in a folder that can go on.

    Raises:
        StorageError: There is none.
    """
    unfinished: list[tuple[str, Path]] = []
    for record_file in parent.glob(f"*/{RUN_FILE}"):
        with contextlib.suppress(StorageError):
            record = read_record(record_file.parent)
            if not record.finished or record.failures:
                unfinished.append((record.started, record_file.parent))
    if not unfinished:
        raise StorageError(f"there is no unfinished run in {parent}. Start one: `isobench run`")
    return max(unfinished)[1]
