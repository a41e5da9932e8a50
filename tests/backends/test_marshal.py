"""Frames as the dispatcher takes them, and what hostile code may answer."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sandbox_library
from backends import ForeignError, In, Out, Sandbox, Status, ViolationError, native, registry
from backends.contract import Backend, ForeignFunction, ViolationKind
from backends.contract import Sandbox as OpenSandbox
from backends.declaration import STRING_LIMIT, declare
from backends.marshal import Call, MalformedReplyError
from backends.prototype import read

if TYPE_CHECKING:
    from collections.abc import Sequence

REVERSE = declare(
    read("int reverse(const char *input, size_t n, char *output, size_t *written)"),
    {"input": In(length="n"), "output": Out(capacity=8, length="written")},
    Status(),
)
NAME = declare(read("const char *name_of(int number)"), {})
GREET = declare(read("void greet(char *text)"), {"text": Out(capacity=8, string=True)})
TAKE = declare(read("int take(short *p)"), {"p": Out(capacity=4, returned=True)})


def reply(result: int, *contents: bytes, string: bytes = b"", lengths: Sequence[int] = ()) -> bytes:
    """A reply as it should be, but for `lengths`."""
    said = lengths or [len(content) for content in contents]
    head = struct.pack(f"={2 + len(said)}Q", result, len(string), *said)
    return b"".join([head, *contents, string])


def cell(number: int) -> bytes:
    return struct.pack("=Q", number)


def test_well_formed_replies_are_read() -> None:
    call = Call(REVERSE, {"input": b"abc"})
    assert call.results(reply(0, b"cba", cell(3))) == [b"cba"]
    assert Call(NAME, {"number": 1}).results(reply(5, string=b"one")) == [b"one"]
    assert Call(NAME, {"number": 1}).results(reply(0)) == [None]
    assert Call(GREET, {}).results(reply(0, b"hello")) == [b"hello"]
    assert Call(TAKE, {}).results(reply(2, struct.pack("=2h", -1, 1))) == [[-1, 1]]
    with pytest.raises(ForeignError):
        call.results(reply(1, b"", cell(1 << 60)))  # of an error, lengths mean nothing


MALFORMED = {
    "nothing": (REVERSE, b""),
    "half a header": (REVERSE, bytes(20)),
    "content that is not there": (REVERSE, reply(0, b"cba", cell(3))[:-1]),
    "content too much": (REVERSE, reply(0, b"cba", cell(3)) + b"x"),
    "longer than the room": (REVERSE, reply(0, b"123456789", cell(9))),
    "longer than memory": (REVERSE, reply(0, b"cba", cell(3), lengths=[1 << 63, 8])),
    "lengths that wrap around": (REVERSE, reply(0, b"cba", cell(3), lengths=[(1 << 64) - 5, 16])),
    "less than it says": (REVERSE, reply(0, b"cba", cell(4))),
    "more than it says": (REVERSE, reply(0, b"cba", cell(2))),
    "more than there is room for": (REVERSE, reply(0, b"12345678", cell(9))),
    "a string of a function without": (GREET, reply(5, b"hello", string=b"x")),
    "a string at NULL": (NAME, reply(0, string=b"one")),
    "a string beyond the limit": (NAME, reply(5, string=b"x" * (STRING_LIMIT + 1))),
    "a string with a zero byte": (NAME, reply(5, string=b"a\0b")),
    "a buffer's string with a zero byte": (GREET, reply(0, b"a\0b")),
    "returns more than there is room for": (TAKE, reply(5, bytes(8))),
    "returns more than there is": (TAKE, reply(3, bytes(4))),
    "half an element": (TAKE, reply(1, bytes(3))),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_replies_are_refused(case: str) -> None:
    declaration, answer = MALFORMED[case]
    arguments = {name: b"abc" if name == "input" else 1 for name in declaration.parameters}
    with pytest.raises(MalformedReplyError):
        Call(declaration, arguments).results(answer)


@given(st.sampled_from([REVERSE, NAME, GREET, TAKE]), st.binary(max_size=64))
def test_any_reply_is_read_or_refused(declaration, answer) -> None:
    arguments = {name: b"abc" if name == "input" else 1 for name in declaration.parameters}
    try:
        [result] = Call(declaration, arguments).results(answer)
    except (MalformedReplyError, ForeignError):
        return
    assert result is None or len(result) <= len(answer)


@given(st.data())
def test_any_change_of_a_reply_is_read_or_refused(data: st.DataObject) -> None:
    answer = bytearray(reply(0, b"cba", cell(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    try:
        [result] = Call(REVERSE, {"input": b"abc"}).results(answer)
    except (MalformedReplyError, ForeignError):
        return
    assert len(result) == 3


# ---- through a sandbox ----


class Forging(OpenSandbox):
    """A sandbox whose foreign code answers what it likes."""

    opened = 0

    def __init__(self, answer: bytes | ForeignError) -> None:
        Forging.opened += 1
        self._answer = answer

    def call(self, function, data=b"", *, timeout=None) -> bytes:
        if isinstance(self._answer, ForeignError):
            raise self._answer
        return self._answer

    def close(self) -> None:
        pass


class Forger(Backend):
    answer: bytes | ForeignError = b""

    def open(self, functions) -> OpenSandbox:
        return Forging(Forger.answer)


NO_MEMORY = ForeignError("dispatch_call", 1)


@pytest.mark.parametrize("answer", [b"", b"x" * 7, ForeignError("dispatch_call", 2), NO_MEMORY])
def test_a_malformed_reply_is_a_violation_and_the_sandbox_starts_afresh(
    answer: bytes | ForeignError,
) -> None:
    Forger.answer = answer
    with Sandbox(sandbox_library.build(), backend=Forger("forger", "Forges.", "none")) as sandbox:
        status = sandbox.function("int status(int code)")
        before = Forging.opened
        for turn in (1, 2):
            with pytest.raises(ViolationError, match="^status gave a malformed answer") as raised:
                status(1)
            assert raised.value.kind is ViolationKind.PROTOCOL
            assert Forging.opened == before + turn
        Forger.answer = reply(77)
        assert status(1) == 77


def test_whoever_says_that_there_is_no_memory_starts_afresh() -> None:
    Forger.answer = NO_MEMORY
    with Sandbox(sandbox_library.build(), backend=Forger("forger", "Forges.", "none")) as sandbox:
        shout = sandbox.function("void shout(char *text)", text=Out(capacity=1 << 20))
        before = Forging.opened
        for turn in (1, 2):
            with pytest.raises(MemoryError, match="shout: no memory .* for the 1048576 bytes"):
                shout()
            assert Forging.opened == before + turn
        small = sandbox.function("void shout(char *text)", text=Out(capacity=100))
        with pytest.raises(ViolationError, match="no memory for a call that needs 100 bytes"):
            small()


@given(st.integers(0, 1 << 80) | st.integers((1 << 63) - 9, (1 << 64) + 9))
def test_room_that_no_memory_has_is_refused_before_anything_is_sent(capacity: int) -> None:
    for ctype, size in (("char", 1), ("double", 8)):
        prototype = read(f"void f({ctype} *p)")
        declaration = declare(prototype, {"p": Out(capacity=lambda: capacity)})
        if capacity * size < 1 << 63:
            assert Call(declaration, {}).frame(0)
        else:
            with pytest.raises(
                OverflowError, match=f"p would have room for {capacity} elements of {size} bytes"
            ):
                Call(declaration, {})


def test_a_sandbox_without_memory_is_a_memory_error() -> None:
    with Sandbox(sandbox_library.build(), backend="none") as sandbox:
        fill = sandbox.function(
            "void fill(uint8_t *p, uint32_t n, uint8_t value)", p=Out(capacity=1 << 62, length="n")
        )
        with pytest.raises(OverflowError, match="n is"):
            fill(1)
        unlimited = sandbox.function("void shout(char *text)", text=Out(capacity=1 << 62))
        with pytest.raises(MemoryError, match="shout"):
            unlimited()


# ---- the dispatcher itself ----

DISPATCH = ForeignFunction(native.DISPATCH, "dispatch_call")


@given(st.binary(max_size=200))
def test_the_dispatcher_refuses_frames_that_are_none(frame: bytes) -> None:
    # At most 64 buffers and arguments: random counts are far more, and nothing is called.
    counts = struct.pack("=2Q", 65 + len(frame), 1 << 40)
    frame = (frame[:24] + counts + frame[40:])[:200] if len(frame) >= 48 else frame[:47]
    with registry.find("none").open([DISPATCH]) as sandbox, pytest.raises(ForeignError) as raised:
        sandbox.call(DISPATCH, frame)
    assert raised.value.code == 2


def test_a_frame_need_not_be_aligned() -> None:
    library = sandbox_library.build()
    target = ForeignFunction(library, "reverse")
    call = Call(REVERSE, {"input": b"abcdefg"})
    with registry.find("none").open([DISPATCH, target]) as sandbox:
        frame = call.frame(sandbox.address_of(target))
        for shift in range(1, 16):
            moved = memoryview(bytes(shift) + frame)[shift:]
            assert call.results(sandbox.call(DISPATCH, moved)) == [b"gfedcba"]
