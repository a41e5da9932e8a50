"""CPU placement of a sandbox that is a process: on its caller's core, or on another.

Two processes that take turns cost 4 µs a turn on one core and several times that on two, so where
they run is part of what is measured. The caller's thread is pinned while such a sandbox is open,
and gets back the CPUs that it had when the last one closes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import Literal

from backends.contract import Availability, allowed_cpus

Placement = Literal["anywhere", "same-core", "other-core"]


def placement_availability(placement: Placement) -> Availability:
    """Say whether a caller and its sandbox can be placed so on this machine."""
    cpus = _original_cpus(threading.get_native_id())
    if placement == "other-core" and len(cpus) < 2:  # noqa: PLR2004 - two processes, two CPUs
        return Availability.no(
            f"placement other-core needs 2 CPUs, and this process may use only CPU {cpus[0]}",
            "run on a machine with 2 CPUs, or widen the affinity (taskset, cpuset)",
        )
    return Availability.yes()


@dataclass(slots=True)
class _Pinned:
    original: set[int]
    cpu: int
    count: int


# By thread, because the affinity that is set and restored is a thread's.
_pinned: dict[int, _Pinned] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    # The new process has one thread, with the affinity of the thread that forked and a number of
    # its own. Nothing in it will give the pins back, and pins are the sandboxes' of the parent.
    global _lock  # noqa: PLW0603 - a lock that another thread held at the fork stays locked
    _lock = threading.Lock()
    _pinned.clear()


os.register_at_fork(after_in_child=_after_fork)


def _original_cpus(thread: int) -> list[int]:
    """List the CPUs that the thread may use when nothing is pinned."""
    with _lock:
        pinned = _pinned.get(thread)
    return sorted(pinned.original) if pinned else allowed_cpus()


class Pin:
    """The calling thread pinned to one CPU, and the CPU that its sandbox is to use.

    Attributes:
        caller_cpu: CPU of the caller; None when the scheduler decides.
        sandbox_cpu: CPU of the sandbox; None likewise.
    """

    def __init__(self, placement: Placement) -> None:
        self.caller_cpu: int | None = None
        self.sandbox_cpu: int | None = None
        self._thread: int | None = None
        self._process = os.getpid()
        if placement == "anywhere":
            return
        available = placement_availability(placement)
        if not available.available:
            raise OSError(available.reason)
        thread = threading.get_native_id()
        with _lock:
            pinned = _pinned.get(thread)
            if pinned is None:
                # The last CPU: the first handles most interrupts on many machines.
                original = os.sched_getaffinity(0)
                pinned = _Pinned(original, max(original), 0)
                os.sched_setaffinity(0, {pinned.cpu})
                _pinned[thread] = pinned
            pinned.count += 1
            self._thread = thread
            self.caller_cpu = self.sandbox_cpu = pinned.cpu
            if placement == "other-core":
                self.sandbox_cpu = min(pinned.original - {pinned.cpu})

    def release(self) -> None:
        """Let the thread go where it could before, when no other pin holds it."""
        thread, self._thread = self._thread, None
        if thread is None or os.getpid() != self._process:
            return
        with _lock:
            pinned = _pinned[thread]
            pinned.count -= 1
            if pinned.count == 0:
                del _pinned[thread]
                # A thread that has ended took its affinity with it.
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, pinned.original)
