"""Memory under protection keys, shared by threads and handlers; without the keys themselves.

What keys do to it is tested in tests/mpk.
"""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from backends import DataDomain, TrustedHeap, native, protected_memory, protection_keys, registry
from backends.contract import ForeignFunction, SandboxBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ffi = native.ffi


class Library:
    """Stands in for native code: the same, but for keys; says what it was asked to do, and when."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.during_read: Callable[[], object] = lambda: None
        self._memory: list[Any] = []

    def _open(self, kind: str, length: int, handle: Any) -> int:
        memory = ffi.new("uint8_t[]", length)
        opened = ffi.new(f"struct {kind} *", {"memory": memory, "length": length})
        self._memory += [memory, opened]
        handle[0] = opened
        return native.lib.ISO_OK

    def iso_trusted_open(self, length: int, handle: Any, fault: Any) -> int:
        return self._open("iso_trusted", length, handle)

    def iso_trusted_close(self, handle: Any) -> None:
        self.said.append("closed")

    def iso_trusted_write(self, handle: Any, offset: int, data: Any, length: int) -> bool:
        ffi.memmove(handle.memory + offset, data, length)
        return True

    def iso_trusted_read(self, handle: Any, offset: int, data: Any, length: int) -> bool:
        self.said.append("reading")
        self.during_read()
        ffi.memmove(data, handle.memory + offset, length)
        self.said.append("read")
        return True

    def iso_data_open(self, length: int, handle: Any, fault: Any) -> int:
        return self._open("iso_data", length, handle)

    def iso_data_close(self, handle: Any) -> None:
        self.said.append("closed")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    stand_in = Library()
    monkeypatch.setattr(protected_memory, "lib", stand_in)
    yield stand_in
    gc.collect()  # nothing of it outlives it


def test_closing_waits_for_another_threads_read(library: Library) -> None:
    heap = TrustedHeap(4096)
    heap.write(10, b"secret")
    reading, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        reading.set()
        assert go_on.wait(10)

    library.during_read = wait
    results: list[bytes] = []
    reader = threading.Thread(target=lambda: results.append(heap.read(10, 6)))
    closer = threading.Thread(target=heap.close)
    reader.start()
    assert reading.wait(10)
    closer.start()
    closer.join(0.2)  # a lock that is not there is not waited for
    go_on.set()
    reader.join()
    closer.join()
    assert library.said == ["reading", "read", "closed"]
    assert results == [b"secret"]
    for use in (lambda: heap.read(0, 1), lambda: heap.write(0, b"x"), lambda: heap.address):
        with pytest.raises(ValueError, match="the trusted heap is closed"):
            use()
    heap.close()
    assert library.said.count("closed") == 1


def test_who_interrupts_a_read_is_refused(library: Library) -> None:
    refused: list[BaseException] = []

    def handler() -> None:  # in the thread that reads, as a signal's handler would
        for use in (heap.close, lambda: heap.write(0, b"x")):
            with pytest.raises(SandboxBusyError, match="used the trusted heap") as raised:
                use()
            refused.append(raised.value)

    with TrustedHeap(4096) as heap:
        library.during_read = handler
        assert heap.read(0, 1) == b"\0"
        assert len(refused) == 2
        library.during_read = lambda: None
        assert heap.read(0, 1) == b"\0"


def test_a_forked_child_reads_what_another_thread_was_reading(library: Library) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        reading.set()
        assert go_on.wait(10)

    with TrustedHeap(4096) as heap:
        library.during_read = wait
        reader = threading.Thread(target=heap.read, args=(0, 1))
        reader.start()
        assert reading.wait(10)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                library.during_read = lambda: None
                code = 0 if heap.read(0, 1) == b"\0" else 2
            finally:
                os._exit(code)
        go_on.set()
        reader.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_data_domain_is_not_closed_under_a_view(library: Library) -> None:
    data = DataDomain(4096)
    data.memory[:6] = b"secret"
    part = data.memory[2:4]
    with pytest.raises(BufferError, match="drop or release them"):
        data.close()
    assert bytes(part) == b"cr"
    assert library.said == []
    again = data.memory
    part.release()
    with pytest.raises(BufferError):
        data.close()
    del again
    data.close()
    data.close()
    assert library.said == ["closed"]
    with pytest.raises(ValueError, match="the data domain is closed"):
        _ = data.memory


def test_a_view_keeps_a_data_domain_that_is_forgotten(library: Library) -> None:
    view = DataDomain(4096).memory
    gc.collect()
    view[0] = 7
    assert library.said == []
    with pytest.warns(ResourceWarning, match="unclosed data domain"):
        del view
    assert library.said == ["closed"]


@pytest.mark.skipif(protection_keys.availability().available, reason="this CPU has protection keys")
@pytest.mark.parametrize(
    "opening",
    [
        lambda function: DataDomain(4096),
        lambda function: TrustedHeap(4096),
        lambda function: registry.find("mpk").open([function]),
        lambda function: registry.find("mpk-view").open([function]),
        lambda function: registry.find("mpk-bincode-v1").open([function]),
        lambda function: registry.find("pkru-safe").open([function]),
    ],
    ids=["data domain", "trusted heap", "mpk", "mpk-view", "mpk-bincode-v1", "pkru-safe"],
)
def test_what_needs_protection_keys_says_why_there_are_none_and_what_to_do(
    opening: Callable[[ForeignFunction], object],
) -> None:
    here = protection_keys.availability()
    with pytest.raises(OSError, match="protection keys") as raised:
        opening(ForeignFunction(native.BENIGN, "benign_echo"))
    assert here.reason in str(raised.value)
    assert here.remedy in str(raised.value)
