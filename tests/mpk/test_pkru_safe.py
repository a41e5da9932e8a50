"""What PKRU-Safe's gate does from Python: the trusted heap, and the end of the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from backends import TrustedHeap, native, registry
from backends.contract import ForeignFunction

PROGRAM = """
import resource, struct, sys
from backends import TrustedHeap, native, registry
from backends.contract import ForeignFunction

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
function = ForeignFunction(native.HOSTILE, "hostile_" + sys.argv[1])
with (
    registry.find("pkru-safe").open([function]) as sandbox,
    TrustedHeap(4096) as heap,
):
    heap.write(16, b"secret")
    print(heap.read(16, 6).decode(), flush=True)
    sandbox.call(function, struct.pack("Q", heap.address + 16))
    print("alive")
"""


@pytest.mark.parametrize("access", ["read", "write"])
def test_foreign_code_that_touches_the_trusted_heap_ends_the_process(access: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, access], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "secret\n", done.stderr


CLEAR = """
import resource, struct
from pathlib import Path
from backends import TrustedHeap, native, registry
from backends.contract import ForeignFunction

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
clear, read = (ForeignFunction(native.HOSTILE, f"hostile_{name}") for name in ("clear", "read"))
runtime = native.COMPILED / "libisolation.so"


def zero_initialised():
    maps = Path("/proc/self/maps").read_text().splitlines()
    base = min(int(line.partition("-")[0], 16) for line in maps if line.endswith(runtime.name))
    image = runtime.read_bytes()
    (table,), (count,) = struct.unpack_from("<Q", image, 32), struct.unpack_from("<H", image, 56)
    for i in range(count):
        segment = struct.unpack_from("<IIQQQQQQ", image, table + 56 * i)
        kind, _, _, at, _, stored, length, _ = segment
        if kind == 1 and length > stored:
            yield base + at + stored, length - stored


def write_and_read(heap):
    heap.write(16, b"secret")
    assert heap.read(16, 6) == b"secret"


with registry.find("pkru-safe").open([clear, read]) as sandbox, TrustedHeap(4096) as old:
    write_and_read(old)
    ((address, length),) = zero_initialised()
    sandbox.call(clear, struct.pack("QQ", address, length))
    with TrustedHeap(4096) as new:
        write_and_read(old)
        write_and_read(new)
        print("written", flush=True)
        sandbox.call(read, struct.pack("Q", old.address + 16))
        print("alive")
"""


def test_a_function_that_clears_the_runtimes_variables_opens_no_heap() -> None:
    done = subprocess.run([sys.executable, "-c", CLEAR], capture_output=True, text=True)
    assert done.stdout == "written\n", done.stderr
    assert done.returncode == -signal.SIGSEGV


def test_the_trusted_heap_keeps_what_was_written_across_calls() -> None:
    reverse = ForeignFunction(native.BENIGN, "benign_reverse")
    with (
        TrustedHeap(5000) as heap,
        registry.find("pkru-safe").open([reverse]) as sandbox,
    ):
        assert len(heap) == 8192
        assert heap.read(0, 8192) == bytes(8192)
        heap.write(8190, b"xy")
        for _ in range(3):
            assert sandbox.call(reverse, b"abc") == b"cba"
            assert heap.read(8189, 3) == b"\0xy"


CLOSED_WHILE_READ = """
import threading
from backends import TrustedHeap

length = 8 << 20
for _ in range(10):
    heap = TrustedHeap(length)
    begun = threading.Event()

    def read():
        try:
            while True:
                begun.set()
                assert heap.read(0, length) == bytes(length)
        except ValueError as error:
            print(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    heap.close()
    for thread in threads:
        thread.join()
"""


def test_a_trusted_heap_is_not_closed_under_the_threads_that_read_it() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED_WHILE_READ], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the trusted heap is closed\n" * 20


def test_what_does_not_lie_within_the_trusted_heap_is_refused() -> None:
    with TrustedHeap(4096) as heap:
        for offset, length in ((-1, 1), (4096, 1), (0, 4097), (1 << 63, 1)):
            with pytest.raises(ValueError, match="not within its 4096"):
                heap.read(offset, length)
            with pytest.raises(ValueError, match="not within its 4096"):
                heap.write(offset, bytes(length))
        with pytest.raises(ValueError, match="not within"):
            heap.read(0, -1)
    heap.close()
    with pytest.raises(ValueError, match="closed"):
        heap.read(0, 1)
