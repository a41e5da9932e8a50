"""One user at a time of what threads and signal handlers share."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backends.contract import SandboxBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

# All there are, so that fork() in the user's program can give each a lock that is not held.
_all: weakref.WeakSet[Turns] = weakref.WeakSet()


def _after_fork() -> None:
    for turns in list(_all):
        turns.start_afresh()


os.register_at_fork(after_in_child=_after_fork)


class Turns:
    """Makes other threads wait, and refuses signal handlers, which no lock can hold back.

    A handler runs in the thread that it interrupts, so that this thread's lock is its own.

    Args:
        what: What is taken turns at, for the error.

    Attributes:
        lock: Held while somebody has the turn.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.start_afresh()
        _all.add(self)

    def start_afresh(self) -> None:
        """Forget, in a process just forked, what the other threads of the old one were doing."""
        self.lock = threading.RLock()
        self._taken = False

    @contextmanager
    def take(self) -> Iterator[None]:
        """Have the turn for a `with` block.

        Raises:
            SandboxBusyError: A signal handler asks for it and has interrupted who has it.
        """
        with self.lock:
            if self._taken:
                raise SandboxBusyError(f"a signal handler used the {self._what} it interrupted")
            self._taken = True
            try:
                yield
            finally:
                self._taken = False
