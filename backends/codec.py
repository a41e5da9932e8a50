r"""Codecs from Python: values to their encoded form and back, by the C code of native/codec.

The C code works on values in memory; what is here lays Python's values out there and reads them.
Types are written as `u8`, …, `u64`, `i8`, …, `i64`, `f32`, `f64`, `bool`, `bytes`, `str`,
`list[T]`, `option[T]` and `tuple[T,…]`; their values are int, float, bool, bytes, str, list, the
value or None, and tuple.

    >>> parse_type("tuple[u32,bool,bytes,i64]")
    Type('tuple[u32,bool,bytes,i64]')
    >>> Codec("bincode-v2").encode("list[u32]", [1, 1000])
    b'\x02\x01\xfb\xe8\x03'
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from backends import _native

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ffi = _native.ffi
lib = _native.lib

#: How many elements without a size (those of `list[tuple[]]`) a value may have, in all its lists
#: together, to be encoded or decoded.
EMPTY_ELEMENTS_MAX: int = lib.CODEC_EMPTY_ELEMENTS_MAX
#: How deep types may be nested.
DEPTH_MAX: int = lib.CODEC_DEPTH_MAX

_REASONS = {
    lib.CODEC_TRUNCATED: "it ends too early",
    lib.CODEC_MALFORMED: "it has a tag, a bool, a length, a pointer or text that no encoder writes",
    lib.CODEC_NO_MEMORY: "there is no memory for it",
    lib.CODEC_TOO_DEEP: f"its type is nested more than {DEPTH_MAX} deep",
    lib.CODEC_MISALIGNED: "it is not aligned",
}
_VECTOR = struct.Struct("@PNN")  # struct codec_vector
_SCALARS = {
    "u8": (lib.CODEC_U8, "<B"),
    "u16": (lib.CODEC_U16, "<H"),
    "u32": (lib.CODEC_U32, "<I"),
    "u64": (lib.CODEC_U64, "<Q"),
    "i8": (lib.CODEC_I8, "<b"),
    "i16": (lib.CODEC_I16, "<h"),
    "i32": (lib.CODEC_I32, "<i"),
    "i64": (lib.CODEC_I64, "<q"),
    "f32": (lib.CODEC_F32, "<f"),
    "f64": (lib.CODEC_F64, "<d"),
    "bool": (lib.CODEC_BOOL, "<?"),
}


class CodecError(ValueError):
    """A type, a value or an encoded form that a codec cannot take; the message says why."""


@dataclass(frozen=True, eq=False, repr=False)
class Type:
    """A type, laid out as C does.

    Attributes:
        name: As `parse_type` reads it.
        kind: The `enum codec_kind`.
        size: Of a value in memory, in bytes, without what its vectors point to.
        alignment: In bytes.
        element: What a list or an option is of.
        fields: A tuple's.
    """

    name: str
    kind: int
    size: int
    alignment: int
    element: Type | None = None
    fields: tuple[Type, ...] = ()

    @functools.cached_property
    def _field_pointers(self) -> Any:
        return ffi.new("struct codec_type *[]", [field.pointer for field in self.fields] or 1)

    @functools.cached_property
    def pointer(self) -> Any:
        """The `struct codec_type *`, valid as long as this object."""
        pointer = ffi.new("struct codec_type *")
        pointer.kind = self.kind
        pointer.size = self.size
        pointer.alignment = self.alignment
        pointer.element = ffi.NULL if self.element is None else self.element.pointer
        pointer.fields = self._field_pointers
        pointer.field_count = len(self.fields)
        return pointer

    def __repr__(self) -> str:
        return f"Type({self.name!r})"

    def placed_fields(self) -> Iterator[tuple[Type, int]]:
        """Each field of a tuple, and its offset in bytes."""
        offset = 0
        for field in self.fields:
            offset = _align(offset, field.alignment)
            yield field, offset
            offset += field.size


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


@functools.cache
def parse_type(text: str) -> Type:
    """Read a type such as `tuple[u32,bool,bytes,list[i64]]`.

    Raises:
        CodecError: It is none, or one whose values Python cannot tell apart (an option's option).
    """
    parsed, rest = _parse(text.replace(" ", ""), 0)
    if rest:
        raise CodecError(f"{rest!r} is left over behind the type {parsed.name!r} in {text!r}")
    return parsed


def _parse(text: str, depth: int) -> tuple[Type, str]:
    """Read the type that a text begins with; return it and the rest of the text."""
    if depth > DEPTH_MAX:
        raise CodecError(f"the type is nested more than {DEPTH_MAX} deep")
    end = next((i for i, character in enumerate(text) if character in "[],"), len(text))
    name, rest = text[:end], text[end:]
    if name in _SCALARS:
        kind, code = _SCALARS[name]
        size = struct.calcsize(code)
        return Type(name, kind, size, size), rest
    if name in {"bytes", "str"}:
        kind = lib.CODEC_BYTES if name == "bytes" else lib.CODEC_TEXT
        return Type(name, kind, _VECTOR.size, 8), rest
    if name not in {"list", "option", "tuple"}:
        raise CodecError(
            f"no type {name!r}; there are {', '.join(_SCALARS)}, bytes, str, list[T], option[T] "
            "and tuple[T,...]"
        )
    parameters, rest = _parse_parameters(name, rest, depth + 1)
    full = f"{name}[{','.join(parameter.name for parameter in parameters)}]"
    if name == "tuple":
        return _tuple_of(full, parameters), rest
    if len(parameters) != 1:
        raise CodecError(f"{full!r}: a {name} is of one type")
    (element,) = parameters
    if name == "list":
        return Type(full, lib.CODEC_LIST, _VECTOR.size, 8, element), rest
    if element.kind == lib.CODEC_OPTION:
        raise CodecError(f"{full!r}: None could be the option or the option in it")
    size = element.alignment + element.size
    return Type(full, lib.CODEC_OPTION, size, element.alignment, element), rest


def _parse_parameters(name: str, text: str, depth: int) -> tuple[tuple[Type, ...], str]:
    if not text.startswith("["):
        raise CodecError(f"{name} needs the types that it is of: {name}[...]")
    if text.startswith("[]"):
        return (), text[2:]
    parameters = []
    separator = "["
    while separator != "]":
        parameter, text = _parse(text[1:], depth)
        parameters.append(parameter)
        separator = text[:1]
        if separator not in {",", "]"}:
            raise CodecError(f"{name}[{parameter.name} is not closed by ]")
    return tuple(parameters), text[1:]


def _tuple_of(name: str, fields: tuple[Type, ...]) -> Type:
    size = 0
    alignment = 1
    for field in fields:
        size = _align(size, field.alignment) + field.size
        alignment = max(alignment, field.alignment)
    return Type(name, lib.CODEC_TUPLE, _align(size, alignment), alignment, fields=fields)


class _Memory:
    """Blocks of memory that live as long as this object; each is aligned for every type."""

    def __init__(self) -> None:
        self._blocks: list[Any] = []
        self.pointer = ffi.new("struct codec_memory *")
        self.pointer.allocate = lib.codec_allocate

    def __enter__(self) -> Self:
        _memories[_address(self.pointer)] = self
        return self

    def __exit__(self, *exception: object) -> None:
        del _memories[_address(self.pointer)]

    def allocate(self, size: int) -> Any:
        """Allocate so many bytes of zero."""
        block = ffi.new("uint64_t[]", max(1, (size + 7) // 8))
        self._blocks.append(block)
        return ffi.cast("uint8_t *", block)


# What decoding allocates in, by the address that the C code knows it by.
_memories: dict[int, _Memory] = {}


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


@ffi.def_extern()  # type: ignore[untyped-decorator]  # cffi's objects have no types
def codec_allocate(memory: Any, size: int, _alignment: int) -> Any:
    """Allocate for C; NULL where there is no memory."""
    try:
        return _memories[_address(memory)].allocate(size)
    except (MemoryError, OverflowError):
        return ffi.NULL


# ---- Python's values in C's memory ----


def _store(memory: _Memory, kind: Type, value: Any, place: Any) -> None:
    """Write a value at a place in memory.

    Raises:
        CodecError: It is no value of the type.
    """
    if kind.name in _SCALARS:
        _store_scalar(kind, value, place)
    elif kind.kind == lib.CODEC_OPTION:
        place[0] = value is not None
        if value is not None:
            _store(memory, _element(kind), value, place + kind.alignment)
    elif kind.kind == lib.CODEC_TUPLE:
        values = _sequence(kind, value)
        if len(values) != len(kind.fields):
            raise CodecError(f"{kind.name} has {len(kind.fields)} fields, not {len(values)}")
        for (field, offset), item in zip(kind.placed_fields(), values, strict=True):
            _store(memory, field, item, place + offset)
    elif kind.kind == lib.CODEC_LIST:
        values = _sequence(kind, value)
        element = _element(kind)
        content = memory.allocate(len(values) * element.size)
        for i, item in enumerate(values):
            _store(memory, element, item, content + i * element.size)
        _store_vector(content, len(values), place)
    else:
        data = _encode_text(value) if kind.kind == lib.CODEC_TEXT else _bytes(value)
        content = memory.allocate(len(data))
        ffi.memmove(content, data, len(data))
        _store_vector(content, len(data), place)


def _store_scalar(kind: Type, value: Any, place: Any) -> None:
    code = _SCALARS[kind.name][1]
    if code == "<?" and not isinstance(value, bool):
        raise CodecError(f"{value!r} is no bool")
    try:
        struct.pack_into(code, ffi.buffer(place, kind.size), 0, value)
    except (struct.error, OverflowError) as error:
        raise CodecError(f"{value!r} is no {kind.name}: {error}") from error


def _store_vector(content: Any, length: int, place: Any) -> None:
    _VECTOR.pack_into(ffi.buffer(place, _VECTOR.size), 0, _address(content), length, length)


def _element(kind: Type) -> Type:
    assert kind.element is not None  # noqa: S101  # a list or an option has one
    return kind.element


def _sequence(kind: Type, value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise CodecError(f"{value!r} is no list or tuple, and so no {kind.name}")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise CodecError(f"{value!r} is no bytes")
    return bytes(value)


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise CodecError(f"{value!r} is no str")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise CodecError(f"{value!r} cannot be UTF-8: {error.reason}") from error


def _load(kind: Type, place: Any) -> Any:
    """Read a value, which a codec has found valid, from its place in memory."""
    if kind.name in _SCALARS:
        return struct.unpack(_SCALARS[kind.name][1], ffi.buffer(place, kind.size))[0]
    if kind.kind == lib.CODEC_OPTION:
        return _load(_element(kind), place + kind.alignment) if place[0] else None
    if kind.kind == lib.CODEC_TUPLE:
        return tuple(_load(field, place + offset) for field, offset in kind.placed_fields())
    address, _, length = _VECTOR.unpack(ffi.buffer(place, _VECTOR.size))
    content = ffi.cast("uint8_t *", address)
    if kind.kind == lib.CODEC_LIST:
        element = _element(kind)
        return [_load(element, content + i * element.size) for i in range(length)]
    data = bytes(ffi.buffer(content, length)) if length else b""
    return data.decode() if kind.kind == lib.CODEC_TEXT else data


# ---- codecs ----


def names() -> list[str]:
    """Names of all codecs, each with its level: `bincode-v1-O0`."""
    found: list[str] = []
    while (codec := lib.codecs[len(found)]) != ffi.NULL:
        found.append(ffi.string(codec.name).decode())
    return found


class Codec:
    """A codec by name, at the level of its name (`bincode-v1-O0`) or else at -O2.

    Raises:
        CodecError: There is none of that name.
    """

    def __init__(self, name: str) -> None:
        self._codec = lib.codec_find(name.encode())
        if self._codec == ffi.NULL:
            raise CodecError(f"no codec {name!r}; there are {', '.join(names())}")
        self.name: str = ffi.string(self._codec.name).decode()

    def __repr__(self) -> str:
        return f"Codec({self.name!r})"

    def encode(self, kind: Type | str, value: Any) -> bytes:
        """Encode a value.

        Raises:
            CodecError: It is no value of the type, or too long or too deep for a codec.
        """
        kind = _type(kind)
        memory = _Memory()
        place = memory.allocate(kind.size)
        _store(memory, kind, value, place)
        room = self._codec.bound(kind.pointer, place)
        buffer = memory.allocate(room)
        used = ffi.new("size_t *")
        status = self._codec.encode(kind.pointer, place, buffer, room, used)
        self._check(status, f"cannot encode a {kind.name}")
        return bytes(ffi.buffer(buffer, used[0]))

    def decode(self, kind: Type | str, data: bytes) -> Any:
        """Decode a value that is all of the data.

        Raises:
            CodecError: No encoder writes these data, or there are bytes after the value.
        """
        kind = _type(kind)
        with _Memory() as memory:
            place = memory.allocate(kind.size)
            buffer = memory.allocate(len(data))
            ffi.memmove(buffer, data, len(data))
            used = ffi.new("size_t *")
            status = self._codec.decode(
                kind.pointer, buffer, len(data), memory.pointer, place, used
            )
            self._check(status, f"cannot decode a {kind.name} from {len(data)} bytes")
            if used[0] != len(data):
                raise CodecError(
                    f"{self.name}: a {kind.name} ends after {used[0]} of {len(data)} bytes"
                )
            return _load(kind, place)

    def _check(self, status: int, what: str) -> None:
        if status != lib.CODEC_OK:
            raise CodecError(f"{self.name}: {what}: {_REASONS[status]}")


def _type(kind: Type | str) -> Type:
    return parse_type(kind) if isinstance(kind, str) else kind
