"""A fuzz target for codecs from Python: the input is a codec, a type and an encoded value.

Byte 0 says which codec, modulo their number; byte 1 the length of the type's text, modulo 64; the
rest is the encoded form. What decodes is encoded again, and that decodes to the same; what does not
is a `CodecError`; neither takes more than so much memory for a byte of the input.
"""

from __future__ import annotations

from typing import Any

from backends.codec import EMPTY_ELEMENTS_MAX, Codec, CodecError, names, parse_type

CODECS = [Codec(name) for name in names()]


def _elements(value: Any) -> int:
    if isinstance(value, list | tuple):
        return 1 + sum(map(_elements, value))
    return 1


def check(data: bytes) -> None:
    """Decode what the input describes."""
    if len(data) < 2:
        return
    codec = CODECS[data[0] % len(CODECS)]
    length = data[1] % 64
    text, encoded = data[2 : 2 + length].decode("latin-1"), data[2 + length :]
    parse_type.cache_clear()
    try:
        kind = parse_type(text)
        value = codec.decode(kind, encoded)
    except CodecError:
        return
    # A type of n characters has at most n fields, and an encoded byte stands for one value of it.
    assert _elements(value) <= EMPTY_ELEMENTS_MAX + (1 + len(text)) * (1 + len(encoded))
    again = codec.encode(kind, value)
    if codec.name.startswith("bincode"):
        assert again == encoded
    assert repr(codec.decode(kind, again)) == repr(value)  # NaN is not equal to itself
