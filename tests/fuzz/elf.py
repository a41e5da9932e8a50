"""A fuzz target for the reading of ELF files by `isobench gadgets`: the input is a file.

It is scanned, or the reason why not is a `NotScannableError`.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness import gadgets


def check(data: bytes) -> None:
    """Scan the input, and read what it asks of the dynamic loader."""
    descriptor = os.memfd_create("library.so")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        path = Path(f"/proc/self/fd/{descriptor}")
        try:
            found = gadgets.scan(path)
        except gadgets.NotScannableError as error:
            assert str(error).startswith(str(path))
        else:
            for gadget in found:
                at = data[gadget.offset :]
                wanted = b"\x0f\x01\xef" if gadget.kind == "WRPKRU" else b"\x0f\xae"
                assert at.startswith(wanted)
        try:
            linking = gadgets._linking(path, ())
        except gadgets.NotScannableError as error:
            assert str(error).startswith(str(path))
        else:
            assert sum(map(len, linking.needed)) <= len(data) * 64
    finally:
        os.close(descriptor)
