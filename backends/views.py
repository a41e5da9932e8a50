"""Results of a sandbox that are read where they lie."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from backends import _native

ffi = _native.ffi


class Views:
    """The results of a sandbox that are read where they lie.

    A view may be dropped in any thread and at any time, also in the middle of a call: it is only
    noted then, and released before the next call.
    """

    def __init__(self, mechanism: Any) -> None:
        self._mechanism = mechanism
        self._dropped: deque[Any] = deque()
        self._lock = threading.Lock()
        self._count = 0
        self._closing: Any = None

    def view(self, output: Any) -> memoryview:
        """Make a read-only view of a result, which is released with it."""
        if output.data == ffi.NULL:
            return memoryview(b"")
        kept = ffi.new("struct iso_bytes *", {"data": output.data, "length": output.length})
        self._count += 1
        owner = ffi.gc(output.data, lambda _: self._drop(kept))
        return memoryview(ffi.buffer(owner, output.length)).toreadonly()

    def _drop(self, output: Any) -> None:
        self._dropped.append(output)
        if self._closing is not None:
            self._finish()

    def release_dropped(self, sandbox: Any) -> None:
        """Release what was dropped. Between calls."""
        while True:
            try:
                output = self._dropped.popleft()
            except IndexError:
                return
            self._mechanism.release(sandbox, output)
            self._count -= 1

    def close(self, sandbox: Any) -> None:
        """Close the sandbox, now or with the last view."""
        self._closing = sandbox
        self._finish()

    def _finish(self) -> None:
        # Not blocking: whoever holds the lock sees what was dropped meanwhile.
        while self._closing is not None and len(self._dropped) == self._count:
            if not self._lock.acquire(blocking=False):
                return
            try:
                sandbox, self._closing = self._closing, None
                if sandbox is not None:
                    self.release_dropped(sandbox)
                    self._mechanism.close(sandbox)
            finally:
                self._lock.release()
