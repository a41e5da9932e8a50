"""A host: a process of its own that opens a sandbox and calls one hostile function in it."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import struct
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

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
from harness.attacks import witness
from harness.attacks.canaries import Canaries, grown, resident

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.attacks.catalogue import Entry

#: `struct attack` of native/attack/attack.h.
_ATTACK = struct.Struct("=QQqqqQ256s")

_ROOM = 1 << 20  # bytes of a report
_PLACE = struct.Struct("=QQ")  # where a report is and its length

_REVERSE = ForeignFunction(native.BENIGN, "benign_reverse")
_ERROR = ForeignFunction(native.BENIGN, "benign_error")
_WRITE_NULL = ForeignFunction(native.COMPILED / "libattacks.so", "attack_write_null")
_LARGE = bytes(range(256)) * (1 << 16)

#: By how much a good call after an attack may take longer than the attack.
_PATIENCE = 5

#: Attacks whose result is what they have read.
_TELLING = frozenset(
    (
        "read",
        "wild_output",
        "change_length_behind_the_check",
        "long_output",
        "process_vm_readv",
        "read_by_ring",
        "reuse_protection_keys",
        "read_file",
    )
)


class Report(msgspec.Struct):
    """What a host tells of itself, as far as it came.

    Attributes:
        opened: The sandbox was opened.
        refused: Or was not, or there was nothing to attack: why.
        error: The number of the system's error for which it was not opened; 0: none.
        witness: The process that has the host's memory when the host has ended.
        memory: What has to be where in it from now on: the address and, in hexadecimal, the content
            of canaries, by their names.
        attacked: The attack was called.
        failed: What the host's own code failed with: before the attack, a fault of this program.
        called: How the call ended: "returned", "error", "violation", "elsewhere" (not at the call),
            or another exception's name.
        code: The error code that it returned; 0: none.
        said: How it ended, in words.
        told: The canaries whose content the call returned.
        before: What was seen of the canaries before the call.
        after: And after it.
        next: How the next call ended: "right", or what was wrong with it.
        second: And the one after that.
        done: All this is complete.
    """

    opened: bool = False
    refused: str = ""
    error: int = 0
    witness: int = 0
    memory: dict[str, tuple[int, str]] = {}
    attacked: bool = False
    failed: str = ""
    called: str = ""
    code: int = 0
    said: str = ""
    told: list[str] = []
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    next: str = ""
    second: str = ""
    done: bool = False


class Channel:
    """Memory that a host and its supervisor share: no descriptor that an attack could close."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PLACE.size + 2 * _ROOM)
        self._free = 0
        self.write(Report())

    def keep_from_children(self) -> None:
        """Take it out of the memory that processes forked from here get."""
        self._memory.madvise(mmap.MADV_DONTFORK)

    def write(self, report: Report) -> None:
        """Replace the report; until the new one is whole, the old one is there."""
        data = msgspec.msgpack.encode(report)
        if len(data) > _ROOM:
            raise ValueError(f"a report of {len(data)} bytes is too long")
        begin = _PLACE.size + self._free * _ROOM
        self._memory[begin : begin + len(data)] = data
        self._memory[: _PLACE.size] = _PLACE.pack(begin, len(data))
        self._free = 1 - self._free

    def read(self) -> Report | None:
        """Return the report, or None: an attack has overwritten it."""
        begin, length = _PLACE.unpack(self._memory[: _PLACE.size])
        if begin > len(self._memory) or length > _ROOM:
            return None
        try:
            return msgspec.msgpack.decode(self._memory[begin : begin + length], type=Report)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

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

    def run(self, channel: Channel, folder: Path) -> NoReturn:
        """Be the host, in a process of its own, and end it.

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
            report.witness = witness.start()
            canaries = Canaries(folder, self._set_apart(), self.gates)
            self._attack(canaries, report, channel)
        except BaseException:  # noqa: BLE001 - whatever it is, the supervisor is told
            report.failed = traceback.format_exc()
        channel.write(report)
        os._exit(0)  # before any canary is freed, and overwritten: the supervisor looks at them

    @property
    def targets(self) -> int:
        """How many addresses the attack is called with, one after the other."""
        return len(self.gates.get(self.entry.target, (0,)))

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
        memory, left = resident(), canaries.left_open()
        if not self.targets:
            report.refused = f"there is none of the {self.entry.target} in this process"
            return
        try:
            # What is forked now has memory in which a function of the host's waits.
            sandbox = canaries.waiting(lambda: self.backend.open(functions))
        except OSError as error:
            # A matrix goes to others, whom this machine's folders tell nothing.
            report.refused = str(error).replace(f"{native.COMPILED}/", "")
            report.error = error.errno or 0
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
                report.memory = canaries.memory() | canaries.frame()
                channel.write(report)
                if benign:
                    report.attacked = True
                    output = _observed(lambda: self._benign(sandbox), report)
                else:
                    output = _observed(
                        lambda: self._hostile(hostile, sandbox, canaries, report), report
                    )
                report.memory = canaries.memory()  # soon, the frame is no more
                channel.write(report)

            before = canaries.observe(attacked=False)
            state, state_after = canaries.run(ctypes.CFUNCTYPE(None)(body))
            if report.failed:
                return
            if state_after["control returned elsewhere"] == "1":  # past what notes how it ended
                report.called = "elsewhere"
            if self.targets > 1:
                report.said = f"{self.targets} targets; {report.said}"
            if self.entry.symbol in _TELLING:
                report.told = canaries.told(output)
            # They come first: a sandbox that has ended is opened again by them.
            report.next, report.second = later_calls(
                lambda: self._next_call(sandbox), returned=report.called in ("returned", "error")
            )
            report.before = before | state | grown(memory, memory) | left
            report.after = canaries.observe() | state_after
        report.after |= grown(memory, resident()) | canaries.left_open()
        report.done = True

    def _hostile(
        self, hostile: ForeignFunction, sandbox: Sandbox, canaries: Canaries, report: Report
    ) -> bytes:
        """Call the attack on each of its targets; raise a violation, or else an error of theirs."""
        inputs = [
            _ATTACK.pack(
                target,
                self.entry.argument or canaries.heap,
                os.getpid(),
                canaries.descriptor,
                canaries.mapped,
                canaries.jump_buffer,
                os.fsencode(canaries.folder),
            )
            for target in canaries.targets(self.entry.target)
        ]
        report.attacked = True
        output = b""
        raised: ViolationError | ForeignError | None = None
        for data in inputs:
            try:
                output = bytes(sandbox.call(hostile, data, timeout=self._limit))
            except ViolationError as error:
                raised = error
            except ForeignError as error:
                raised = raised or error
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

    def _next_call(self, sandbox: Sandbox) -> str:
        """Make a good call and tell how it ended."""
        # What started again may be slow on a busy machine, which is no fault of the wall.
        limit = None if self._limit is None else _PATIENCE * self._limit
        try:
            answer = bytes(sandbox.call(_REVERSE, b"next", timeout=limit))
        except Exception as error:  # noqa: BLE001 - whatever it is, no call follows
            return f"{type(error).__name__}: {error}"
        return "right" if answer == b"txen" else f"wrong: {answer[:64]!r}"


def later_calls(call: Callable[[], str], *, returned: bool) -> tuple[str, str]:
    """Tell how the next call after an attack ended, and how the one after that.

    If the attack `returned`, what it has corrupted may show only later: then it is the first call
    that fails, and the one after that.
    """
    first, second = call(), call()
    if returned and first == "right" != second:
        return second, call()
    return first, second


def _observed(call: Callable[[], bytes], report: Report) -> bytes:
    """Make a call, and note how it ended."""
    output = b""
    try:
        output = call()
        report.called, report.said = "returned", f"{len(output)} bytes"
    except ForeignError as error:
        report.called, report.code, report.said = "error", error.code, str(error)
    except ViolationError as error:
        report.called, report.said = "violation", str(error)
    except (IsolationError, OSError, MemoryError, ValueError, ArithmeticError) as error:
        report.called, report.said = type(error).__name__, str(error)
    except BaseException:  # noqa: BLE001 - what called this drops it: it is C
        report.failed = traceback.format_exc()
    return output
