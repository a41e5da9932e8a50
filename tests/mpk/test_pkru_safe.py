"""What PKRU-Safe's gate does from Python: the trusted heap, and the end of the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from backends import native, registry
from backends.contract import ForeignFunction

PROGRAM = """
import resource, struct, sys
from backends import native, registry
from backends.contract import ForeignFunction

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
function = ForeignFunction(native.HOSTILE, "hostile_" + sys.argv[1])
with (
    registry.find("pkru-safe").open([function]) as sandbox,
    native.TrustedHeap(4096) as heap,
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


def test_the_trusted_heap_keeps_what_was_written_across_calls() -> None:
    reverse = ForeignFunction(native.BENIGN, "benign_reverse")
    with (
        native.TrustedHeap(5000) as heap,
        registry.find("pkru-safe").open([reverse]) as sandbox,
    ):
        assert len(heap) == 8192
        assert heap.read(0, 8192) == bytes(8192)
        heap.write(8190, b"xy")
        for _ in range(3):
            assert sandbox.call(reverse, b"abc") == b"cba"
            assert heap.read(8189, 3) == b"\0xy"


def test_what_does_not_lie_within_the_trusted_heap_is_refused() -> None:
    with native.TrustedHeap(4096) as heap:
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
