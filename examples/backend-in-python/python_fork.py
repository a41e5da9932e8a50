"""A wall of one's own in one file: a process forked and talked to by `multiprocessing`.

It has no native loop, so it is measured from Python, binding included (level `python`).
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.contract import (
    Backend,
    BytesLike,
    Fault,
    ForeignError,
    ForeignFunction,
    Guarantees,
    Sandbox,
    SandboxClosedError,
    ViolationError,
    ViolationKind,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_OUTPUT = 1 << 30  # bytes
_fork = multiprocessing.get_context("fork")


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _resolve(function: ForeignFunction) -> ctypes._CFuncPtr:
    try:
        resolved = ctypes.CDLL(str(function.library))[function.symbol]
    except AttributeError as error:
        raise OSError(str(error)) from error
    resolved.restype = ctypes.c_int
    resolved.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_Bytes))
    return resolved


def _serve(
    connection: multiprocessing.connection.Connection, functions: Sequence[ctypes._CFuncPtr]
) -> None:
    """Answer requests (a byte for the function, the input) with a code and the output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    faulthandler.disable()  # a crash here is an answer, not an incident
    free = ctypes.CDLL(None).free
    free.argtypes = (ctypes.c_void_p,)
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        output = _Bytes()
        code = functions[request[0]](request[1:], len(request) - 1, ctypes.byref(output))
        if output.length and not output.data:
            os.abort()  # ctypes would make bytes of nothing
        result = ctypes.string_at(output.data, output.length) if output.length else b""
        connection.send_bytes(bytes([code]) + result)
        free(output.data)


class PythonForkSandbox(Sandbox):
    """A forked process that serves calls."""

    def __init__(self, functions: Sequence[ForeignFunction]) -> None:
        self._functions = {function: i for i, function in enumerate(functions)}
        self._resolved = [_resolve(function) for function in functions]
        self._lock = threading.Lock()
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._connection, theirs = _fork.Pipe()
        self._process = _fork.Process(target=_serve, args=(theirs, self._resolved), daemon=True)
        self._process.start()
        theirs.close()

    def call(
        self, function: ForeignFunction, data: BytesLike = b"", *, timeout: float | None = None
    ) -> bytes:
        """Run a foreign function; see `Sandbox.call`."""
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be positive, and is {timeout}")
        request = b"".join((b"", memoryview(data).cast("B")))
        with self._lock:
            if self._closed:
                raise SandboxClosedError("the sandbox is closed")
            if function not in self._functions:
                raise ValueError(f"{function} is not among the sandbox's functions")
            answer = self._exchange(function, bytes([self._functions[function]]) + request, timeout)
        if answer[0] != 0:
            raise ForeignError(function.symbol, answer[0])
        return answer[1:]

    def _exchange(self, function: ForeignFunction, request: bytes, timeout: float | None) -> bytes:
        try:
            self._connection.send_bytes(request)
            if self._connection.poll(timeout):
                return self._connection.recv_bytes(_MAX_OUTPUT) or b"\x00"
            fault = Fault(ViolationKind.TIMEOUT)
        except (EOFError, OSError):
            self._process.join(1)
            code = self._process.exitcode
            fault = (
                Fault(ViolationKind.SIGNAL, signal=-code)
                if code is not None and code < 0
                else Fault(ViolationKind.EXIT, exit_code=code)
            )
        self._end()
        self._start()
        raise ViolationError(function.symbol, fault)

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()

    def close(self) -> None:
        """End the process. Closing twice is fine."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._end()


@dataclass(frozen=True)
class PythonFork(Backend):
    """The backend: its sandboxes are processes of `multiprocessing`."""

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        """Open a sandbox; its process starts at once."""
        return PythonForkSandbox(functions)


BACKEND = PythonFork(
    name="python-fork",
    summary="A process forked and talked to by Python's multiprocessing.",
    mechanism="python-fork",
    guarantees=Guarantees(
        heap=True,
        stack=True,
        static_data=True,
        machine_state=True,
        recovery=True,
        time_limit=True,
        threads=True,
    ),
)
