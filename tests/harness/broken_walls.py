"""Walls that let everything through, each attacked by what a Python function does to its host.

`python broken_walls.py` writes a line of JSON for each: a verdict, or what the supervisor failed
with. It is a process of its own, since hosts are forked and pytest has threads.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from backends import registry
from backends.contract import (
    Backend,
    Fault,
    ForeignError,
    ForeignFunction,
    Guarantees,
    Sandbox,
    ViolationError,
    ViolationKind,
)
from harness.attacks import catalogue, supervisor
from harness.attacks.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GATES: dict[str, list[int]] = {
    catalogue.RUNTIME_GATES: list(range(12)),
    catalogue.LIBC_GATE: [],
}


class _Open(Sandbox):
    def __init__(self, attack: Callable[[int, int], None]) -> None:
        self._attack = attack

    def call(self, function: ForeignFunction, data: Any = b"", *, timeout: Any = None) -> bytes:
        if not function.symbol.startswith("attack_"):
            return bytes(data)[::-1]
        self._attack(*struct.unpack_from("=QQ", data))
        return b""

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Wall(Backend):
    """Calls `attack` with the target and the argument of each hostile call."""

    attack: Callable[[int, int], None] = field(default=lambda _target, _argument: None)
    error: int = 0

    def open(self, functions: Sequence[ForeignFunction]) -> Sandbox:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return _Open(self.attack)


def write(target: int) -> None:
    ctypes.memset(target, 0x66, 64)


def an_error_at_first_and_the_block_at_last(target: int, argument: int) -> None:
    if target == 0:
        raise ForeignError("attack", 1)
    if target < 11:
        raise ViolationError("attack", Fault(ViolationKind.TIMEOUT))
    write(argument)


def write_and(then: Callable[[], object]) -> Callable[[int, int], None]:
    def attack(target: int, argument: int) -> None:
        write(target)
        then()

    return attack


def fail(target: int, argument: int) -> None:
    raise TypeError("the interpreter is broken")


def leave_no_descriptors(target: int, argument: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def cases() -> dict[str, tuple[str, Backend]]:
    """Return an attack's name and a wall, by the case's name."""
    heap = Guarantees(heap=True)
    limited = Guarantees(heap=True, time_limit=True)
    strict = Guarantees(heap=True, strict=True)

    def wall(attack: Callable[[int, int], None], claims: Guarantees = heap) -> Wall:
        return Wall("broken", "", "none", guarantees=claims, attack=attack)

    silent = Wall("broken", "", "none", guarantees=strict)
    pipe = registry.find("sandcrust-pipe")
    return {
        "targets": ("jump-into-the-gate", wall(an_error_at_first_and_the_block_at_last)),
        "slow targets": ("jump-into-the-gate", wall(lambda *_: time.sleep(0.1), limited)),
        "no targets": ("jump-to-libc-s-wrpkru", wall(fail)),
        "unknown target": ("unknown", wall(fail)),
        "host fails": ("write-heap", wall(fail)),
        "host cannot look": ("write-heap", wall(leave_no_descriptors)),
        "no memory": ("own-wrpkru", replace(silent, error=12)),
        "not permitted": ("own-wrpkru", replace(silent, error=1)),
        "not permitted, without cause": ("write-heap", replace(silent, error=1)),
        "writes and crashes": ("write-heap", wall(write_and(os.abort))),
        "writes and is killed": (
            "write-stack",
            wall(write_and(lambda: os.kill(os.getpid(), signal.SIGKILL)), Guarantees(stack=True)),
        ),
        "writes and hangs": ("write-heap", wall(write_and(signal.pause))),
        "crashes": ("write-heap", wall(lambda *_: os.abort())),
        "never works again": ("write-null", replace(pipe, respawn=False)),  # type: ignore[call-arg]
    }


def find(name: str) -> catalogue.Entry:
    if name == "unknown":
        return catalogue.find("write-heap")._replace(target="unknown")
    return catalogue.find(name)


def main() -> None:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    limits = supervisor.Limits(call=0.5, host=1.0, unlimited=1.0)
    for name, (attack, wall) in cases().items():
        result: dict[str, Any] = {"case": name}
        try:
            verdict = supervisor.attack(
                Host(find(attack), wall, GATES, limits.call), "here", limits
            )
            result["verdict"] = msgspec.to_builtins(verdict)
        except RuntimeError as error:
            result["error"] = str(error)
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()
