"""Calls as bytes: the frames that native/foreign/dispatch.c takes, and the replies that it gives.

A reply comes from behind the wall, where foreign code can forge it: every length in it is checked
against what the caller knows before anything is read by it.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.contract import ForeignError
from backends.declaration import (
    STRING_LIMIT,
    Buffer,
    Cell,
    Constant,
    Declaration,
    Length,
    Number,
    Text,
)
from backends.marks import In, InOut, Out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.contract import BytesLike
    from backends.values import Scalar

# Of dispatch.c: argument_kind, extent.
_INTEGER, _FLOATING, _BUFFER = range(3)
_NONE, _CAPACITY, _OTHER_BUFFER, _RETURNED, _STRING = range(5)
_ALIGNMENT = 16

_HEADER = struct.Struct("=6Q")
_ARGUMENT = struct.Struct("=2Q")
_ENTRY = struct.Struct("=6Q")
_REPLY = struct.Struct("=2Q")

NO_MEMORY = 1  # error code of dispatch_call


class MalformedReplyError(Exception):
    """A reply that no well-behaved function gives."""


class _Memory(NamedTuple):
    """A buffer of a call: what it begins with, its room in bytes, what of it comes back."""

    content: bytes | memoryview
    capacity: int
    extent: int = _NONE
    source: int = 0
    unit: int = 1


class Call:
    """One call of a declared function.

    Args:
        declaration: The function.
        arguments: What Python passes, by name.

    Attributes:
        size: Bytes of memory that it needs in the sandbox, beside what the function takes.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument does not fit the others, or the declaration.
        OverflowError: A number does not fit its type, or memory would be larger than any can be.
    """

    def __init__(self, declaration: Declaration, arguments: Mapping[str, Any]) -> None:
        self._declaration = declaration
        self._given = arguments
        contents = {
            argument.name: _content(argument, arguments[argument.name])
            for argument in declaration.arguments
            if isinstance(argument, Text)
            or (isinstance(argument, Buffer) and not isinstance(argument.mark, Out))
        }
        self._lengths = self._agree(contents)
        self._words: list[tuple[int, int]] = []
        self._memory: list[_Memory] = []
        for argument in declaration.arguments:
            self._add(argument, contents)
        self.size = STRING_LIMIT * declaration.returns_string + sum(
            len(memory.content) + memory.capacity for memory in self._memory
        )

    def frame(self, address: int) -> bytes:
        """Lay it out for dispatch_call.

        Args:
            address: The function's, in the sandbox.
        """
        scalar = self._declaration.scalar
        string = self._declaration.returns_string
        size = 8 if string else 0 if scalar is None else scalar.size
        floating = scalar is not None and scalar.floating
        limit = STRING_LIMIT if string else 0
        counts = len(self._words), len(self._memory)
        head = [_HEADER.pack(address, floating, limit, *counts, size)]
        head += [_ARGUMENT.pack(*word) for word in self._words]
        offset = _align(_HEADER.size + _ARGUMENT.size * counts[0] + _ENTRY.size * counts[1])
        body: list[bytes | memoryview] = []
        for content, *rest in self._memory:
            head.append(_ENTRY.pack(offset, len(content), *rest))
            padding = _align(len(content)) - len(content)
            body += [content, bytes(padding)]
            offset += len(content) + padding
        head.append(bytes(-sum(map(len, head)) % _ALIGNMENT))
        return b"".join([*head, *body])

    def results(self, reply: BytesLike) -> list[Any]:
        """Read a reply.

        Raises:
            ForeignError: The function returned an error.
            MalformedReplyError: It is none.
        """
        result, string, written = self._parse(reply)
        declaration = self._declaration
        value: Any = None if declaration.scalar is None else declaration.scalar.decode(result)
        if declaration.status is not None and not declaration.status.is_ok(value):
            raise ForeignError(declaration.symbol, int(value))
        if declaration.returns_length() and value < 0:
            raise ForeignError(declaration.symbol, value)
        results: list[Any] = []
        if declaration.gives_value():
            results.append(string if declaration.returns_string else value)
        results += [
            self._content_of(buffer, written, value)
            for buffer in declaration.buffers()
            if not isinstance(buffer.mark, In)
        ]
        return results

    # ---- laying out ----

    def _agree(self, contents: Mapping[str, bytes | memoryview]) -> dict[str, int]:
        """Find out the number of elements of every buffer and what the lengths are told.

        Raises:
            ValueError: Two buffers have one length and are not of one length.
        """
        counts: dict[str, int] = {}
        told: dict[str, tuple[int, str]] = {}
        buffers = self._declaration.buffers()
        for buffer in buffers:
            mark, passed = buffer.mark, 1
            if not isinstance(mark, Out):
                passed = len(contents[buffer.name]) // buffer.elements.size
                if isinstance(mark.length, int) and passed != mark.length:
                    raise ValueError(
                        f"{buffer.name} has {passed} elements, and needs {mark.length}"
                    )
            counts[buffer.name] = self._room(buffer, passed)
            if not isinstance(mark.length, str) or (
                isinstance(mark, Out) and mark.capacity is None
            ):
                continue
            said = counts[buffer.name] if isinstance(mark, Out) else passed
            before, whose = told.setdefault(mark.length, (said, buffer.name))
            if before != said:
                raise ValueError(
                    f"{whose} and {buffer.name} are of one length, {mark.length}, and have "
                    f"{before} and {said} elements"
                )
        for buffer in buffers:
            mark = buffer.mark
            if isinstance(mark, Out) and mark.capacity is None and mark.length is not None:
                length = told.get(mark.length)
                count = self._given[mark.length] if length is None else length[0]
                counts[buffer.name] = _whole(count, mark.length)
        return counts | {name: length for name, (length, _) in told.items()}

    def _room(self, buffer: Buffer, passed: int) -> int:
        """Return how many elements a buffer has room for, as far as it says so itself.

        Raises:
            TypeError: The capacity is no integer.
            ValueError: It is negative, or less than what is passed.
        """
        mark = buffer.mark
        if isinstance(mark, In) or mark.capacity is None:
            return passed
        capacity = _whole(self._number(mark.capacity, buffer.name), f"{buffer.name}'s capacity")
        if isinstance(mark, InOut) and capacity < passed:
            raise ValueError(f"{buffer.name} has {passed} elements, and room for {capacity}")
        return capacity

    def _number(self, value: Any, whose: str) -> Any:
        """Return a number, or what a function makes of the arguments."""
        if not callable(value):
            return value
        return value(**{name: self._given[name] for name in self._declaration.wants[whose]})

    def _add(self, argument: object, contents: Mapping[str, bytes | memoryview]) -> None:
        match argument:
            case Number(name, scalar):
                self._pass(name, scalar, self._given[name])
            case Length(name, scalar):
                told = name in self._lengths
                self._pass(name, scalar, self._lengths[name] if told else self._given[name])
            case Constant(name, scalar, mark):
                if scalar is None:
                    self._words.append((_INTEGER, 0))
                else:
                    self._pass(name, scalar, self._number(mark.value, name))
            case Text(name, index):
                self._point(index, _Memory(contents[name], 0))
            case Cell(name, index, scalar):
                word = scalar.encode(name, self._lengths[name])
                content = word.to_bytes(8, "little")[: scalar.size]
                self._point(index, _Memory(content, scalar.size, _CAPACITY))
            case Buffer(name, index):
                self._point(index, self._memory_of(argument, contents.get(name, b"")))

    def _pass(self, name: str, scalar: Scalar, value: Any) -> None:
        kind = _FLOATING if scalar.floating else _INTEGER
        self._words.append((kind, scalar.encode(name, value)))

    def _point(self, index: int, memory: _Memory) -> None:
        self._words.append((_BUFFER, index))
        self._memory.append(memory)

    def _memory_of(self, buffer: Buffer, content: bytes | memoryview) -> _Memory:
        mark = buffer.mark
        if isinstance(mark, In):
            return _Memory(content, 0)
        count, size = self._lengths[buffer.name], buffer.elements.size
        capacity = count * size
        if capacity > sys.maxsize:
            raise OverflowError(
                f"{buffer.name} would have room for {count} elements of {size} bytes, and no "
                f"memory has more than {sys.maxsize} bytes; pass or declare a smaller number"
            )
        if buffer.cell is not None:
            return _Memory(content, capacity, _OTHER_BUFFER, buffer.cell.index, size)
        extent = _RETURNED if mark.returned else _STRING if mark.string else _CAPACITY
        return _Memory(content, capacity, extent, 0, size)

    # ---- reading ----

    def _parse(self, reply: BytesLike) -> tuple[int, bytes | None, dict[int, bytes]]:
        """Take a reply apart: what was returned, as a number and as a string, and the buffers.

        Raises:
            MalformedReplyError: Its lengths are not possible.
        """
        returning = [i for i, memory in enumerate(self._memory) if memory.extent != _NONE]
        head = _REPLY.size + 8 * len(returning)
        if len(reply) < head:
            raise MalformedReplyError(
                f"{len(reply)} bytes, less than the {head} that there must be"
            )
        view = memoryview(reply)
        # Read once: what is checked is what is used.
        result, string_length, *lengths = struct.unpack(f"={2 + len(returning)}Q", view[:head])
        limit = STRING_LIMIT if self._declaration.returns_string and result != 0 else 0
        if string_length > limit:
            raise MalformedReplyError(f"a string of {string_length} bytes instead of {limit}")
        for i, length in zip(returning, lengths, strict=True):
            if length > self._memory[i].capacity:
                raise MalformedReplyError(
                    f"{length} bytes where there is room for {self._memory[i].capacity}"
                )
        if head + sum(lengths) + string_length != len(reply):
            raise MalformedReplyError(f"{len(reply)} bytes, which its lengths do not add up to")
        contents = {}
        for i, length in zip(returning, lengths, strict=True):
            contents[i] = bytes(view[head : head + length])
            head += length
        string = None if result == 0 else bytes(view[head:])
        if string is not None and b"\0" in string:
            raise MalformedReplyError("a string with a zero byte in it")
        return result, string, contents

    def _content_of(self, buffer: Buffer, written: Mapping[int, bytes], value: Any) -> Any:
        """Make a result of a buffer.

        Raises:
            MalformedReplyError: It is not as long as the function said, or holds no such value.
        """
        content = written[buffer.index]
        memory = self._memory[buffer.index]
        size = buffer.elements.size
        room = memory.capacity // size
        count, says = room, ""
        if memory.extent == _OTHER_BUFFER and buffer.cell is not None:
            word = int.from_bytes(written[buffer.cell.index], "little")
            count, says = buffer.cell.scalar.decode(word), buffer.cell.name
        elif memory.extent == _RETURNED:
            count, says = value, "the return value"
        if not 0 <= count <= room:
            raise MalformedReplyError(
                f"{says} says {count} elements of {buffer.name}, which has room for {room}"
            )
        if memory.extent == _STRING:
            if b"\0" in content:
                raise MalformedReplyError(f"{buffer.name} has a zero byte in it")
        elif len(content) != count * size:
            raise MalformedReplyError(
                f"{buffer.name} has {len(content)} bytes instead of {count * size}"
            )
        try:
            return buffer.elements.decode(content, single=buffer.single)
        except ValueError as error:
            raise MalformedReplyError(f"{buffer.name}: {error}") from None


def _align(length: int) -> int:
    return (length + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def _whole(count: Any, name: str) -> int:
    if not isinstance(count, int):
        raise TypeError(f"{name} is a number of elements, not {count!r}")
    if count < 0:
        raise ValueError(f"{name} is {count}")
    return count


def _content(argument: Text | Buffer, value: Any) -> bytes | memoryview:
    """Lay out what the function reads.

    Raises:
        TypeError: It is of another type.
        ValueError: A string has a zero byte in it.
    """
    if isinstance(argument, Buffer) and not getattr(argument.mark, "string", False):
        return argument.elements.encode(argument.name, value, single=argument.single)
    text = value.encode() if isinstance(value, str) else value
    if not isinstance(text, bytes | bytearray | memoryview):
        raise TypeError(f"{argument.name} is a C string: str or bytes, not {value!r}")
    text = bytes(text)
    if b"\0" in text:
        raise ValueError(f"{argument.name} has a zero byte in it, which would end it")
    return text + b"\0"
