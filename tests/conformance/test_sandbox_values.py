"""One declaration, every wall: values cross as they are, whatever the backend."""

from __future__ import annotations

import array
import ctypes
import math
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sandbox_library
from backends import NULL, Fixed, ForeignError, In, InOut, Out, Status

if TYPE_CHECKING:
    from backends import Sandbox

# Walls differ in how frames travel, not in how they are made: few examples find a difference.
examples = settings(max_examples=25, deadline=None, database=None)

INTEGERS = {
    f"{sign}int{bits}": (
        0 if sign else -(1 << (bits - 1)),
        (1 << bits) - 1 if sign else (1 << (bits - 1)) - 1,
    )
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}


# ---- numbers ----


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_come_back_as_they_went(sandbox: Sandbox, name: str) -> None:
    same = sandbox.function(f"{name}_t same_{name}({name}_t value)")
    least, greatest = INTEGERS[name]

    @examples
    @given(st.integers(least, greatest))
    def check(value: int) -> None:
        assert same(value) == value

    check()
    assert (same(least), same(greatest), same(0)) == (least, greatest, 0)
    for wrong in (least - 1, greatest + 1):
        with pytest.raises(OverflowError, match=f"value is {wrong}"):
            same(wrong)
    with pytest.raises(TypeError, match="value"):
        same("1")


def test_narrow_integers_are_extended_as_compilers_expect(sandbox: Sandbox) -> None:
    widen = sandbox.function("int64_t widen(int8_t a, int16_t b, int32_t c, bool d)")
    assert widen(-128, -32768, -(2**31), True) == -128 - 32768 - 2**31 + 1
    assert widen(127, 32767, 2**31 - 1, False) == 127 + 32767 + 2**31 - 1


def test_doubles_come_back_bit_by_bit(sandbox: Sandbox) -> None:
    same = sandbox.function("double same_double(double value)")

    @examples
    @given(
        st.floats()
        | st.integers(0, 2**64 - 1).map(lambda b: struct.unpack("d", b.to_bytes(8, "little"))[0])
    )
    def check(value: float) -> None:
        assert struct.pack("d", same(value)) == struct.pack("d", value)

    check()
    payload = struct.unpack("<d", (0x7FF8_0000_DEAD_BEEF).to_bytes(8, "little"))[0]
    for value in (payload, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308):
        assert struct.pack("d", same(value)) == struct.pack("d", value)
    assert same(1) == 1.0


def test_floats_come_back_as_they_went(sandbox: Sandbox) -> None:
    same = sandbox.function("float same_float(float value)")

    @examples
    @given(st.floats(width=32))
    def check(value: float) -> None:
        assert struct.pack("f", same(value)) == struct.pack("f", value)

    check()
    with pytest.raises(OverflowError, match="float"):
        same(1e300)
    with pytest.raises(TypeError):
        same("1.0")


def test_truth_values_and_chars(sandbox: Sandbox) -> None:
    truth = sandbox.function("bool same_bool(bool value)")
    assert truth(True) is True
    assert truth(0) is False
    with pytest.raises(TypeError):
        truth(2)
    char = sandbox.function("char same_char(char value)")
    assert [char(bytes([i])) for i in (0, 65, 127, 128, 255)] == [
        b"\0",
        b"A",
        b"\x7f",
        b"\x80",
        b"\xff",
    ]
    for wrong in (65, "A", b"AB", b""):
        with pytest.raises(TypeError):
            char(wrong)


MIXED = (
    "int8_t a, double b, uint16_t c, float d, int32_t e, double f, uint64_t g, float h, int64_t i, "
    "double j, uint8_t k, float l, int16_t m, double n, uint32_t o, float p, int8_t q, double r, "
    "bool s, float t, int64_t u, double v"
)
STRATEGIES = {
    **{f"{name}_t": st.integers(*limits) for name, limits in INTEGERS.items()},
    "double": st.floats(allow_nan=False),
    "float": st.floats(width=32, allow_nan=False),
    "bool": st.booleans(),
}


def test_more_arguments_than_registers_in_any_order(sandbox: Sandbox) -> None:
    mixed = sandbox.function(f"void mixed({MIXED}, double *out)", out=Out(capacity=22))
    types = [part.split()[0] for part in MIXED.split(",")]

    @examples
    @given(st.tuples(*(STRATEGIES[name] for name in types)))
    def check(values: tuple[float, ...]) -> None:
        assert mixed(*values) == [float(value) for value in values]

    check()


# ---- memory ----


def test_bytes_in_of_any_length_and_kind(sandbox: Sandbox) -> None:
    total = sandbox.function(
        "int sum_bytes(const void *data, size_t length)", data=In(length="length")
    )

    @examples
    @given(st.binary(max_size=5000))
    def check(data: bytes) -> None:
        assert total(data) == sum(data)

    check()
    assert total(bytearray(b"abc")) == total(memoryview(b"xaxbxcx")[1::2]) == sum(b"abc")
    assert total(array.array("H", [0x0102])) == 3
    with pytest.raises(TypeError, match="data"):
        total("abc")
    with pytest.raises(TypeError):
        total(b"abc", 3)  # the length is no parameter


def test_bytes_out_are_as_long_as_the_function_says(sandbox: Sandbox) -> None:
    reverse = sandbox_library.declare_reverse(sandbox)

    @examples
    @given(st.binary(max_size=100_000))
    def check(data: bytes) -> None:
        assert reverse(data) == data[::-1]

    check()


def test_a_status_that_is_an_error_is_raised_and_nothing_is_lost(sandbox: Sandbox) -> None:
    reverse = sandbox_library.declare_reverse(sandbox, capacity=3)
    count = sandbox.function("int count_calls(void)")
    first, second = count(), count()  # the same where a process for each call remembers nothing
    with pytest.raises(ForeignError, match="reverse") as raised:
        reverse(b"abcd")
    assert raised.value.code == -1
    assert reverse(b"abc") == b"cba"
    assert count() == second + (second - first)


def test_the_return_value_can_be_the_length(sandbox: Sandbox) -> None:
    take = sandbox.function(
        "int take(char *output, int room, int wanted)",
        output=Out(capacity=50, length="room", returned=True),
    )
    assert take(3) == b"abc"
    assert take(0) == b""
    assert take(50) == (b"abcdefghijklmnopqrstuvwxyz" * 2)[:50]
    with pytest.raises(ForeignError) as raised:
        take(-1)
    assert raised.value.code == -1


def test_a_length_that_nothing_else_says_is_a_parameter(sandbox: Sandbox) -> None:
    fill = sandbox.function(
        "void fill(uint8_t *output, uint32_t length, uint8_t value)", output=Out(length="length")
    )
    assert fill(5, 7) == b"\x07" * 5
    assert fill(0, 7) == b""
    assert fill(length=1 << 20, value=1) == b"\x01" * (1 << 20)
    for wrong, error in ((-1, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match="length"):
            fill(wrong, 7)


def test_arrays_of_one_length(sandbox: Sandbox) -> None:
    add = sandbox.function(
        "void add(const double *a, const double *b, double *sum, size_t count)",
        a=In(length="count"),
        b=In(length="count"),
        sum=Out(length="count"),
    )
    assert add([1, 2.5], (3, 4)) == [4.0, 6.5]
    assert add(array.array("d", [1]), struct.pack("d", 2)) == [3.0]
    assert add([], []) == []
    with pytest.raises(ValueError, match="a and b are of one length, count"):
        add([1, 2], [1])
    assert add((ctypes.c_double * 1)(1), [2]) == [3.0]  # whose format says the byte order
    swapped = (ctypes.c_double.__ctype_be__ * 1)(1)
    for wrong in (array.array("f", [1, 2]), array.array("q", [1]), swapped, [None], 5, {"a": 1}):
        with pytest.raises(TypeError, match="a"):
            add(wrong, [1])
    with pytest.raises(ValueError, match="multiple of 8"):
        add(b"1234567", [1])


def test_memory_is_changed_in_a_copy(sandbox: Sandbox) -> None:
    negate = sandbox.function(
        "void negate(int16_t *values, size_t count)", values=InOut(length="count")
    )
    values = array.array("h", [1, -2, 32767])
    assert negate(values) == [-1, 2, -32767]
    assert list(values) == [1, -2, 32767]
    drop = sandbox.function(
        "void drop_zeroes(uint32_t *values, uint8_t *count)", values=InOut(length="count")
    )
    assert drop([0, 5, 0, 7, 2**32 - 1]) == [5, 7, 2**32 - 1]
    assert drop([]) == []
    with pytest.raises(OverflowError, match="count is 256"):
        drop([1] * 256)


def test_c_strings_in_and_out(sandbox: Sandbox) -> None:
    length = sandbox.function("size_t text_length(const char *text)")
    assert length("grün") == 5
    assert length(b"abc") == 3
    assert length("") == 0
    with pytest.raises(ValueError, match="zero byte"):
        length(b"a\0b")
    with pytest.raises(TypeError, match="C string"):
        length(5)
    greet = sandbox.function(
        "void greet(const char *name, char *greeting, size_t room)",
        greeting=Out(capacity=64, length="room", string=True),
    )
    assert greet("world") == b"hello world"
    greeted = sandbox.function(
        "const char *greeted(char *greeting, size_t room)",
        greeting=Out(capacity=64, length="room", string=True),
    )
    assert greeted() == (b"hello world", b"hello world")  # what is returned lies in the buffer
    shout = sandbox.function("void shout(char *text)", text=InOut(string=True))
    assert shout("loud") == b"LOUD"
    name = sandbox.function("const char *name_of(int number)")
    assert [name(0), name(1), name(2)] == [None, b"one", b""]


SQUARE = {
    "kind": 4,
    "closed": True,
    "name": b"square",
    "colour": b"\x01\x00\x02\xff",
    "numbers": [-1, 0, 1],
    "points": [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}],
}


def test_structures_by_pointer(sandbox: Sandbox) -> None:
    shapes = sandbox_library.SHAPES
    square = sandbox.function(
        "void unit_square(struct shape *shape)", declarations=shapes, shape=Out()
    )
    assert square() == SQUARE
    area = sandbox.function("double area(const struct shape *shape)", declarations=shapes)
    assert area(SQUARE) == 1.0
    assert area({}) == 0.0  # what is not said is zero
    move = sandbox.function(
        "void move(struct shape *shape, const struct point *by)", declarations=shapes, shape=InOut()
    )
    moved = move(SQUARE, {"x": 2, "y": 3})
    assert moved == {**SQUARE, "points": [{"x": 2.0, "y": 3.0}, {"x": 3.0, "y": 4.0}]}
    centres = sandbox.function(
        "void centres(const struct shape *shapes, size_t count, struct point *centres)",
        declarations=shapes,
        shapes=In(length="count"),
        centres=Out(length="count"),
    )
    assert centres([SQUARE, moved]) == [{"x": 0.5, "y": 0.5}, {"x": 2.5, "y": 3.5}]
    with pytest.raises(ValueError, match="no field 'sides'"):
        area({"sides": 4})
    with pytest.raises(OverflowError):
        area({"kind": 256})
    with pytest.raises(TypeError):
        area(7)


def test_null_and_fixed_arguments(sandbox: Sandbox) -> None:
    assert sandbox.function("bool is_null(const void *pointer)", pointer=NULL)() is True
    status = sandbox.function("int status(int code)", code=Fixed(lambda: 5))
    assert status() == 5
    same = sandbox.function("double same_double(double value)", value=Fixed(2.5))
    assert same() == 2.5


def test_memory_is_aligned_as_by_malloc_and_zeroed(sandbox: Sandbox) -> None:
    aligned = sandbox.function(
        "int is_aligned(const void *input, size_t length, char *other, double *output)",
        input=In(length="length"),
        other=Out(capacity=3),
        output=Out(),
    )
    for length in range(40):
        assert aligned(bytes(length)) == (1, bytes(3), 0.0)


def test_several_results_are_a_named_tuple(sandbox: Sandbox) -> None:
    aligned = sandbox.function(
        "int is_aligned(const void *input, size_t length, char *other, double *output)",
        input=In(length="length"),
        other=Out(capacity=3),
        output=Out(),
    )
    result = aligned(b"")
    assert (result.returned, result.other, result.output) == (1, bytes(3), 0.0)


@pytest.mark.parametrize(("ok", "good", "bad"), [(0, 0, 1), (7, 7, 0), (bool, -5, 0)])
def test_what_a_status_takes_for_success(sandbox: Sandbox, ok: object, good: int, bad: int) -> None:
    status = sandbox.function("int status(int code)", returns=Status(ok=ok))
    assert status(good) is None
    with pytest.raises(ForeignError) as raised:
        status(bad)
    assert raised.value.code == bad
