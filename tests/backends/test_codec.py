"""Codecs: bincode as its crates write it; with all of them values come back as they were."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import codec
from backends.codec import Codec, CodecError, parse_type

# Encodings made with the crates bincode 1.3.3 and 2.0.0-rc.3, the latter in its standard
# configuration. 64-bit integers are strings.
VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parent.parent / "data/bincode-vectors.jsonl")
    .read_text()
    .splitlines()
]
FAMILIES = ("bincode-v1", "bincode-v2", "abomonation-v1", "abomonation-v2")
LEVELS = (0, 1, 2, 3)
NAMES = [f"{family}-O{level}" for family in FAMILIES for level in LEVELS]
SCALARS = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "bool")

# As slow as the machine is busy.
arbitrary = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

leaves = st.sampled_from([*SCALARS, "bytes", "str"])
types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map("list[{}]".format),
        inner.filter(lambda name: not name.startswith("option")).map("option[{}]".format),
        st.lists(inner, max_size=4).map(lambda fields: f"tuple[{','.join(fields)}]"),
    ),
    max_leaves=8,
)


def values(kind: codec.Type) -> st.SearchStrategy[Any]:
    """Values of a type."""
    name = kind.name
    if name[0] in "ui":
        bits = int(name[1:])
        low = 0 if name[0] == "u" else -(1 << (bits - 1))
        return st.integers(low, low + (1 << bits) - 1)
    if name[0] == "f":
        return st.floats(width=int(name[1:]), allow_nan=False)
    if name.startswith("tuple"):
        return st.tuples(*map(values, kind.fields))
    if name.startswith("list"):
        return st.lists(values(kind.element), max_size=6)
    if name.startswith("option"):
        return st.none() | values(kind.element)
    return {"bool": st.booleans(), "bytes": st.binary(), "str": st.text()}[name]


typed_values = types.flatmap(lambda name: st.tuples(st.just(name), values(parse_type(name))))


def from_json(kind: codec.Type, value: Any) -> Any:
    """A value of the vectors' file as Python's codecs have it."""
    if value is None:
        return None
    if kind.fields:
        return tuple(map(from_json, kind.fields, value))
    if kind.name.startswith("list"):
        return [from_json(kind.element, item) for item in value]
    if kind.element:
        return from_json(kind.element, value)
    if kind.name == "f32":  # written with as many digits as tell it from its neighbours
        return struct.unpack("f", struct.pack("f", value))[0]
    convert = {"u64": int, "i64": int, "bytes": bytes}.get(kind.name)
    return convert(value) if convert else value


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_bincode_agrees_with_the_crates_in_both_directions(version: str, level: int) -> None:
    assert len({vector["type"] for vector in VECTORS}) == 17
    bincode = Codec(f"bincode-{version}-O{level}")
    for vector in VECTORS:
        kind = vector["type"]
        value = from_json(parse_type(kind), vector["value"])
        encoded = bytes.fromhex(vector[f"bincode_{version}"])
        assert bincode.encode(kind, value) == encoded
        assert bincode.decode(kind, encoded) == value


def variable(number: int) -> bytes:
    """An unsigned integer of bincode 2."""
    if number < 251:
        return bytes([number])
    tag, size = (251, 2) if number < 1 << 16 else (252, 4) if number < 1 << 32 else (253, 8)
    return bytes([tag]) + number.to_bytes(size, "little")


def by_specification(kind: codec.Type, value: Any, version: str) -> bytes:
    """The encoded form, straight from bincode's specification."""
    v2 = version == "v2"
    if kind.name in {"f32", "f64"}:
        return struct.pack("<f" if kind.size == 4 else "<d", value)
    if kind.name in SCALARS:
        signed = kind.name.startswith("i")
        if not v2 or kind.size == 1:
            return int(value).to_bytes(kind.size, "little", signed=signed)
        return variable((2 * value if value >= 0 else -2 * value - 1) if signed else value)
    if kind.name.startswith("tuple"):
        parts = zip(kind.fields, value, strict=True)
        return b"".join(by_specification(field, item, version) for field, item in parts)
    if kind.name.startswith("option"):
        some = value is not None
        return bytes([some]) + (by_specification(kind.element, value, version) if some else b"")
    if kind.name.startswith("list"):
        content = b"".join(by_specification(kind.element, item, version) for item in value)
    else:
        content = value = value.encode() if kind.name == "str" else value
    return (variable(len(value)) if v2 else struct.pack("<Q", len(value))) + content


@arbitrary
@given(typed_values, st.sampled_from(["v1", "v2"]), st.sampled_from(LEVELS))
def test_bincode_agrees_with_its_specification(
    typed: tuple[str, Any], version: str, level: int
) -> None:
    kind, value = typed
    expected = by_specification(parse_type(kind), value, version)
    assert Codec(f"bincode-{version}-O{level}").encode(kind, value) == expected


def test_each_codec_is_there_at_each_level() -> None:
    assert codec.names() == NAMES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_without_a_level_is_level_2(family: str) -> None:
    assert Codec(family).name == f"{family}-O2"


@pytest.mark.parametrize("name", ["", "bincode", "bincode-v1-O", "bincode-v1-O4", "Bincode-v1"])
def test_an_unknown_name_is_an_error_that_lists_the_codecs(name: str) -> None:
    with pytest.raises(CodecError, match="there are bincode-v1-O0, bincode-v1-O1"):
        Codec(name)


@arbitrary
@given(typed_values, st.sampled_from(NAMES))
def test_what_is_encoded_decodes_to_the_same_value(typed: tuple[str, Any], name: str) -> None:
    kind, value = typed
    one = Codec(name)
    assert one.decode(kind, one.encode(kind, value)) == value


@arbitrary
@given(typed_values)
def test_levels_and_the_two_abomonations_encode_alike(typed: tuple[str, Any]) -> None:
    encoded = {name: Codec(name).encode(*typed) for name in NAMES}
    for alike in ("bincode-v1", "bincode-v2", "abomonation"):
        assert len({encoded[name] for name in NAMES if name.startswith(alike)}) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0])
def test_floats_that_are_not_numbers_come_back(name: str, kind: str, number: float) -> None:
    decoded = Codec(name).decode(kind, Codec(name).encode(kind, number))
    assert struct.pack("d", decoded) == struct.pack("d", number)


@arbitrary
@given(typed_values, st.sampled_from(NAMES), st.data())
def test_what_is_cut_short_is_an_error(typed: tuple[str, Any], name: str, data) -> None:
    kind, value = typed
    encoded = Codec(name).encode(kind, value)
    if encoded:
        cut = data.draw(st.integers(0, len(encoded) - 1))
        with pytest.raises(CodecError):
            Codec(name).decode(kind, encoded[:cut])


@arbitrary
@given(typed_values, st.sampled_from(NAMES), st.binary(min_size=1))
def test_what_is_left_over_is_an_error(typed: tuple[str, Any], name: str, more: bytes) -> None:
    kind, value = typed
    encoded = Codec(name).encode(kind, value)
    with pytest.raises(CodecError, match=f"ends after {len(encoded)} of {len(encoded + more)}"):
        Codec(name).decode(kind, encoded + more)


def is_value(kind: codec.Type, value: Any) -> bool:
    """Whether Python has a value of the type."""
    try:
        Codec("bincode-v1").encode(kind, value)
    except CodecError:
        return False
    return True


@arbitrary
@given(typed_values, st.sampled_from(NAMES), st.data())
def test_what_is_changed_on_its_way_is_an_error_or_a_value(
    typed: tuple[str, Any], name: str, data
) -> None:
    kind, value = typed
    encoded = bytearray(Codec(name).encode(kind, value))
    for _ in range(data.draw(st.integers(1, 4)) if encoded else 0):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = Codec(name).decode(kind, bytes(encoded))
    except CodecError:
        return
    assert is_value(parse_type(kind), decoded)


@arbitrary
@given(types, st.sampled_from(NAMES), st.binary(max_size=200))
def test_any_bytes_are_an_error_or_a_value(kind: str, name: str, data: bytes) -> None:
    try:
        decoded = Codec(name).decode(kind, data)
    except CodecError:
        return
    assert is_value(parse_type(kind), decoded)


@arbitrary
@given(st.binary(max_size=12))
def test_text_decodes_where_python_finds_it_valid(text: bytes) -> None:
    encoded = bytes([len(text)]) + text
    try:
        expected = text.decode()
    except UnicodeDecodeError:
        with pytest.raises(CodecError, match="text that no encoder writes"):
            Codec("bincode-v2").decode("str", encoded)
    else:
        assert Codec("bincode-v2").decode("str", encoded) == expected


def test_abomonation_is_memory_then_content_with_offsets_for_pointers() -> None:
    word = struct.Struct("<Q").pack
    encoded = Codec("abomonation-v1").encode(
        "tuple[u8,list[bytes],list[u16]]", (7, [b"abc", b""], [1])
    )
    assert encoded == (
        b"\7" + bytes(7) + word(56) + word(2) + word(2) + word(108) + word(1) + word(1)
        + word(104) + word(3) + word(3) + word(0) + word(0) + word(0)
        + b"abc" + b"\0" + b"\1\0"
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [(1 << 20) + 1, 1 << 40, (1 << 64) - 1])
def test_a_list_of_nothing_cannot_claim_any_length(family: str, length: int) -> None:
    word = struct.Struct("<Q").pack
    encoded = {
        "bincode-v1": word(length),
        "bincode-v2": (b"\xfc" + word(length)[:4]) if length >> 32 == 0 else b"\xfd" + word(length),
    }.get(family, word(0) + word(length) + word(length))
    with pytest.raises(CodecError, match="a length"):
        Codec(family).decode("list[tuple[]]", encoded)


def lists_of_nothing(family: str, lengths: list[int]) -> bytes:
    """An encoded `list[list[tuple[]]]`, by hand: encoders may refuse it."""
    if family == "bincode-v1":
        return struct.pack(f"<{1 + len(lengths)}Q", len(lengths), *lengths)
    if family == "bincode-v2":
        return b"".join(map(variable, [len(lengths), *lengths]))
    vectors = ((24, len(lengths)), *((0, length) for length in lengths))
    return b"".join(struct.pack("<3Q", offset, length, length) for offset, length in vectors)


@pytest.mark.parametrize("family", FAMILIES)
def test_lists_of_nothing_share_one_limit_and_nothing_is_made_of_those_beyond(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "list[list[tuple[]]]"
    few = [[()] * 3, [], [()]]
    assert Codec(family).encode(kind, few) == lists_of_nothing(family, [3, 0, 1])
    assert Codec(family).decode(kind, lists_of_nothing(family, [3, 0, 1])) == few

    monkeypatch.setattr(codec, "_load", lambda *_: "made")
    most = codec.EMPTY_ELEMENTS_MAX
    within = lists_of_nothing(family, [1000, most - 1000])
    assert Codec(family).decode(kind, within) == "made"
    for lengths in ([1000, most - 999], [most] * 100):
        with pytest.raises(CodecError, match="a length"):
            Codec(family).decode(kind, lists_of_nothing(family, lengths))


@pytest.mark.parametrize("family", FAMILIES)
def test_types_nested_64_deep_are_taken_and_deeper_ones_refused(family: str) -> None:
    def nested(depth: int) -> tuple[str, Any]:
        kind, value = "u8", 5
        for _ in range(depth - 1):
            kind, value = f"tuple[{kind}]", (value,)
        return kind, value

    assert Codec(family).decode(nested(64)[0], Codec(family).encode(*nested(64))) == nested(64)[1]
    with pytest.raises(CodecError, match="more than 64 deep"):
        Codec(family).encode(*nested(65))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("u7", "no type 'u7'"),
        ("", "no type ''"),
        ("list", r"list\[...\]"),
        ("list[u8", "not closed"),
        ("list[u8,u8]", "of one type"),
        ("tuple[u8,]", "no type ''"),
        ("u8]", "left over"),
        ("option[option[u8]]", "None could be"),
        ("list[" * 1000 + "u8" + "]" * 1000, "nested more than 64"),
    ],
)
def test_a_type_that_is_none_is_an_error_that_says_why(kind: str, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        parse_type(kind)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("u8", 256),
        ("u8", -1),
        ("u8", 1.5),
        ("u8", "1"),
        ("i64", 1 << 63),
        ("f32", 1e39),
        ("bool", 1),
        ("bytes", "text"),
        ("str", b"bytes"),
        ("str", "\ud800"),
        ("list[u8]", b"bytes"),
        ("list[u8]", [None]),
        ("tuple[u8,u8]", (1,)),
        ("tuple[u8]", 1),
    ],
)
def test_a_value_that_is_none_of_the_type_is_an_error(kind: str, value: Any) -> None:
    with pytest.raises(CodecError):
        Codec("bincode-v1").encode(kind, value)
