"""A hostile child may answer with any bytes: a result, an error or a violation, and no crash."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backends import registry
from backends.contract import ForeignError, ViolationError, ViolationKind
from parts import Functions

if TYPE_CHECKING:
    from backends.sandcrust import Sandcrust

NOTE = 1 << 63
LIMIT = 1000  # bytes of output
FORGE, REVERSE = Functions.hostile("forge"), Functions.benign("reverse")


def wall(transport: str) -> Sandcrust:
    import dataclasses

    return dataclasses.replace(registry.find(f"sandcrust-{transport}"), max_output_length=LIMIT)


def expected(answer: bytes) -> bytes | int | ViolationKind:
    """What the first call's answer stands for: output, error code, or violation."""
    if len(answer) < 16:
        return ViolationKind.EXIT
    code, call, length = struct.unpack_from("=iIQ", answer)
    payload = answer[16:]
    if call != 1:
        return ViolationKind.PROTOCOL
    if length == NOTE | 24:
        return ViolationKind.EXIT if len(payload) == 24 else ViolationKind.PROTOCOL
    if length > LIMIT or len(payload) > length or (code != 0 and length != 0):
        return ViolationKind.PROTOCOL
    if len(payload) < length:
        return ViolationKind.EXIT
    return payload if code == 0 else code


headers = st.builds(
    lambda code, call, length: struct.pack("=iIQ", code, call, length),
    st.sampled_from([0, 1, -1]) | st.integers(-(1 << 31), (1 << 31) - 1),
    st.sampled_from([1, 1, 1, 0, 2]) | st.integers(0, (1 << 32) - 1),
    st.integers(0, LIMIT + 2)
    | st.sampled_from([NOTE | 24, NOTE, NOTE | 23, (1 << 64) - 1, 1 << 32])
    | st.integers(0, (1 << 64) - 1),
)
answers = st.binary(max_size=80) | st.builds(
    lambda header, payload: header + payload, headers, st.binary(max_size=LIMIT + 40)
)
exact = st.binary(max_size=LIMIT).map(
    lambda payload: struct.pack("=iIQ", 0, 1, len(payload)) + payload
)


@pytest.mark.parametrize("transport", ["pipe", "fork"])
@given(answer=answers | exact)
@example(answer=b"")
@example(answer=struct.pack("=iIQ", 0, 1, NOTE | 24) + bytes(24))
@example(answer=struct.pack("=iIQ", 0, 1, NOTE | 24) + b"\xff" * 24)
@settings(max_examples=400, deadline=None)
def test_any_answer_of_a_child_that_then_exits_is_understood(transport: str, answer: bytes) -> None:
    with wall(transport).open([FORGE, REVERSE]) as sandbox:
        outcome: bytes | int | ViolationKind
        try:
            outcome = sandbox.call(FORGE, b"x" + answer)
        except ForeignError as error:
            outcome = error.code
        except ViolationError as error:
            outcome = error.fault.kind
        assert outcome == expected(answer)
        if transport == "pipe" and not isinstance(outcome, ViolationKind):
            # It answered and then exited: nobody could know before the next call.
            with pytest.raises(ViolationError):
                sandbox.call(REVERSE, b"abc")
        assert sandbox.call(REVERSE, b"abc") == b"cba"


@pytest.mark.parametrize("transport", ["pipe", "fork"])
@given(answer=answers)
@settings(max_examples=50, deadline=None)
def test_any_answer_of_a_child_that_then_hangs_ends_in_time(transport: str, answer: bytes) -> None:
    with wall(transport).open([FORGE, REVERSE]) as sandbox:
        outcome: bytes | int | ViolationKind
        try:
            outcome = sandbox.call(FORGE, b"h" + answer, timeout=0.05)
        except ForeignError as error:
            outcome = error.code
        except ViolationError as error:
            outcome = error.fault.kind
        wanted = expected(answer)
        if wanted is ViolationKind.EXIT:  # it does not exit
            assert outcome in {ViolationKind.TIMEOUT, ViolationKind.PROTOCOL}
        else:
            assert outcome == wanted
        if transport == "pipe" and not isinstance(outcome, ViolationKind):
            with pytest.raises(ViolationError):
                sandbox.call(REVERSE, b"abc", timeout=0.05)
        assert sandbox.call(REVERSE, b"abc") == b"cba"


@given(data=st.binary(max_size=300_000))
@settings(max_examples=60, deadline=None)
def test_any_input_arrives_whole(data: bytes) -> None:
    for transport in ("pipe", "fork"):
        with registry.find(f"sandcrust-{transport}").open([REVERSE]) as sandbox:
            assert sandbox.call(REVERSE, data) == data[::-1]


def test_an_answer_left_over_from_an_earlier_call_is_not_taken_for_this_one() -> None:
    # The child sends the answers to this call and to the next, then its real one to this.
    first = struct.pack("=iIQ", 0, 1, 0)
    with registry.find("sandcrust-pipe").open([FORGE, REVERSE]) as sandbox:
        with pytest.raises(ViolationError, match="longer than it said|another call"):
            sandbox.call(FORGE, b"r" + first + first)
            sandbox.call(REVERSE, b"abc")
        assert sandbox.call(REVERSE, b"abc") == b"cba"
