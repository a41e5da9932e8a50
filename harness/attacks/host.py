"""A host: a process of its own that opens a sandbox and calls one hostile function in it."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import struct
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backends import DataDomain, TrustedHeap, native
from backends.contract import (
    Backend,
    ForeignError,
    ForeignFunction,
    IsolationError,
    Sandbox,
    ViolationError,
)
from harness.attacks.canaries import Canaries, grown, resident

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.attacks.catalogue import Entry

#: `struct attack` of native/attack/attack.h.
_ATTACK = struct.Struct("=QQqqqQ256s")

_ROOM = 1 << 20  # bytes of a report
_LENGTH = struct.Struct("=Q")

_REVERSE = ForeignFunction(native.BENIGN, "benign_reverse")
_ERROR = ForeignFunction(native.BENIGN, "benign_error")
_WRITE_NULL = ForeignFunction(native.COMPILED / "libattacks.so", "attack_write_null")
_LARGE = bytes(range(256)) * (1 << 16)

#: Attacks whose result is what they have read.
_TELLING = frozenset(("read", "long_output", "process_vm_readv", "read_file"))


class Report(msgspec.Struct):
    """What a host tells of itself, as far as it came.

    Attributes:
        opened: The sandbox was opened.
        refused: Or was not: why.
        failed: The host itself failed, which is a fault of this program.
        called: How the call ended: "returned", "error", "violation", or another exception's name.
        said: The same in words.
        told: The canary whose content the call returned.
        before: What was seen of the canaries before the call.
        after: And after it.
        next: How the next call ended: "right", or what was wrong with it.
        done: All this is complete.
    """

    opened: bool = False
    refused: str = ""
    failed: str = ""
    called: str = ""
    said: str = ""
    told: str = ""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    next: str = ""
    done: bool = False


class Channel:
    """Memory that a host and its supervisor share: no descriptor that an attack could close."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROOM)

    def keep_from_children(self) -> None:
        """Take it out of the memory that processes forked from here get."""
        self._memory.madvise(mmap.MADV_DONTFORK)

    def write(self, report: Report) -> None:
        """Replace the report."""
        data = msgspec.msgpack.encode(report)
        if len(data) > _ROOM - _LENGTH.size:
            raise ValueError(f"a report of {len(data)} bytes is too long")
        self._memory[: _LENGTH.size] = _LENGTH.pack(0)
        self._memory[_LENGTH.size : _LENGTH.size + len(data)] = data
        self._memory[: _LENGTH.size] = _LENGTH.pack(len(data))

    def read(self) -> Report:
        """Return the report; an empty one if there is none or an attack has overwritten it."""
        (length,) = _LENGTH.unpack(self._memory[: _LENGTH.size])
        if not 0 < length <= _ROOM - _LENGTH.size:
            return Report()
        try:
            data = self._memory[_LENGTH.size : _LENGTH.size + length]
            return msgspec.msgpack.decode(data, type=Report)
        except msgspec.DecodeError:
            return Report()

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


@dataclass(frozen=True)
class Host:
    """What a host does.

    Attributes:
        entry: The attack.
        backend: The wall.
        gates: See `Canaries`.
        timeout: Seconds for a call, where the wall can limit it.
        calls: How many calls the control makes that alternates good and bad ones.
    """

    entry: Entry
    backend: Backend
    gates: Mapping[str, list[int]]
    timeout: float = 0.3
    calls: int = 10_000

    def run(self, channel: Channel, folder: Path) -> None:
        """Be the host, in a process of its own; the caller ends it then.

        Args:
            channel: Where to report to.
            folder: An empty folder for canaries.
        """
        report = Report()
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            # Some Python ignores; others who started this may.
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            channel.keep_from_children()
            self._attack(Canaries(folder, self._set_apart(), self.gates), report, channel)
        except BaseException:  # noqa: BLE001 - whatever it is, the supervisor is told
            report.failed = traceback.format_exc()
        channel.write(report)

    def _set_apart(self) -> DataDomain | TrustedHeap | None:
        if not self.backend.guarantees.secrets:
            return None
        if self.backend.mechanism == "pkru-safe":
            return TrustedHeap(mmap.PAGESIZE)
        return DataDomain(mmap.PAGESIZE)

    @property
    def _limit(self) -> float | None:
        return self.timeout if self.backend.guarantees.time_limit else None

    def _attack(self, canaries: Canaries, report: Report, channel: Channel) -> None:
        library = "libattack_gadgets.so" if self.entry.own_code else "libattacks.so"
        hostile = ForeignFunction(native.COMPILED / library, f"attack_{self.entry.symbol}")
        benign = self.entry.attack.benign
        functions = [_REVERSE, _ERROR, _WRITE_NULL] if benign else [hostile, _REVERSE]
        memory = resident()
        try:
            sandbox = self.backend.open(functions)
        except OSError as error:
            report.refused = str(error)
            report.done = True
            return
        output = b""
        with sandbox:
            # Whatever a first call sets up is there before anything is compared.
            sandbox.call(_REVERSE, b"first", timeout=self._limit)
            canaries.late()
            report.opened = True
            channel.write(report)

            def body() -> None:
                nonlocal output
                if benign:
                    output = _observed(lambda: self._benign(sandbox), report)
                else:
                    output = _observed(lambda: self._hostile(hostile, sandbox, canaries), report)

            before = canaries.observe()
            state, state_after = canaries.run(ctypes.CFUNCTYPE(None)(body))
            if self.entry.symbol in _TELLING:
                report.told = canaries.told(output)
            # It comes first: a sandbox that has ended is opened again by it.
            report.next = _next_call(sandbox, self._limit)
            report.before = before | state | grown(memory, memory)
            report.after = canaries.observe() | state_after
        report.after |= grown(memory, resident())
        report.done = True

    def _hostile(self, hostile: ForeignFunction, sandbox: Sandbox, canaries: Canaries) -> bytes:
        """Call the attack on each of its targets; raise what came last."""
        output, raised = b"", None
        for target in canaries.targets(self.entry.target):
            data = _ATTACK.pack(
                target,
                self.entry.argument or canaries.heap,
                os.getpid(),
                canaries.descriptor,
                canaries.shared,
                canaries.jump_buffer,
                os.fsencode(canaries.folder),
            )
            try:
                output, raised = bytes(sandbox.call(hostile, data, timeout=self._limit)), None
            except ViolationError as error:
                raised = error
        if raised is not None:
            raise raised
        return output

    def _benign(self, sandbox: Sandbox) -> bytes:
        if self.entry.symbol == "alternate":
            return self._alternate(sandbox)
        data = _LARGE if self.entry.symbol == "large" else b"abc"
        output = bytes(sandbox.call(_REVERSE, data))
        if output != data[::-1]:
            raise ArithmeticError(f"{len(data)} bytes came back wrong")
        return output

    def _alternate(self, sandbox: Sandbox) -> bytes:
        bad = _WRITE_NULL if self.backend.guarantees.recovery else _ERROR
        for number in range(self.calls // 2):
            data = b"%d" % number
            if bytes(sandbox.call(_REVERSE, data)) != data[::-1]:
                raise ArithmeticError(f"good call {number} came back wrong")
            try:
                sandbox.call(bad, b"\x07")
            except (ViolationError, ForeignError):
                continue
            raise ArithmeticError(f"bad call {number} returned")
        return b""


def _observed(call: Callable[[], bytes], report: Report) -> bytes:
    """Make a call, and note how it ended."""
    output = b""
    try:
        output = call()
        report.called, report.said = "returned", f"{len(output)} bytes"
    except ForeignError as error:
        report.called, report.said = "error", str(error)
    except ViolationError as error:
        report.called, report.said = "violation", str(error)
    except (IsolationError, OSError, MemoryError, ValueError, ArithmeticError) as error:
        report.called, report.said = type(error).__name__, str(error)
    return output


def _next_call(sandbox: Sandbox, timeout: float | None) -> str:
    try:
        answer = bytes(sandbox.call(_REVERSE, b"next", timeout=timeout))
    except IsolationError as error:
        with contextlib.suppress(IsolationError):  # what this one has ended is opened again
            sandbox.call(_REVERSE, b"next", timeout=timeout)
        return f"{type(error).__name__}: {error}"
    return "right" if answer == b"txen" else f"wrong: {answer[:64]!r}"
