"""Python values as C lays them out: numbers as 64 bits, memory as bytes."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from backends.marks import DeclarationError

if TYPE_CHECKING:
    from cffi import FFI

_FLOATS = {"float": "<fxxxx", "double": "<d"}
_WIDE = ("wchar_t", "char16_t", "char32_t")
_BYTES = ("void", "char", "unsigned char", "uint8_t")
_WORD = (1 << 64) - 1
_REFUSED = {
    "pointer": "a pointer in memory that crosses would lead to the other side's memory",
    "function": "a function of this process cannot be called from the sandbox (callback)",
    "union": "nothing says which member of a union counts",
    "void": "it has no extent",
}


class Scalar:
    """How a number crosses: in the low bytes of a word of 64 bits.

    Args:
        ffi: Knows the type.
        ctype: The type.

    Attributes:
        size: Bytes.
        floating: It travels in a floating-point register.
        integer: It is an integer: neither float, nor bool, nor char.
        python: What it is in Python. A `char` is bytes of length 1.

    Raises:
        DeclarationError: It is no number that a call can pass.
    """

    def __init__(self, ffi: FFI, ctype: FFI.CType) -> None:
        self.name = ctype.cname
        if ctype.kind not in ("primitive", "enum"):
            raise DeclarationError(f"{self.name} is not a number")
        if self.name in _WIDE:
            raise DeclarationError(f"{self.name}: wide characters are not supported")
        if self.name == "long double" or "complex" in self.name:
            raise DeclarationError(f"{self.name}: of floating types, float and double only")
        # Not by its name: an enumeration may have none.
        self.size = ffi.sizeof(ctype)  # type: ignore[arg-type] # it does take types
        self.floating = self.name in _FLOATS
        self.python: type = int
        if self.floating:
            self.python = float
        elif self.name == "_Bool":
            self.python = bool
        elif self.name == "char":
            self.python = bytes
        self.integer = self.python is int
        signed = self.integer and int(ffi.cast(ctype, -1)) < 0
        bits = 8 * self.size
        self.least = -(1 << (bits - 1)) if signed else 0
        self.greatest = (1 << (bits - signed)) - 1

    def encode(self, name: str, value: Any) -> int:
        """Make a word of a value.

        Args:
            name: The parameter's, for messages.
            value: The value.

        Raises:
            TypeError: It is of another type.
            OverflowError: It does not fit.
        """
        if self.floating:
            if not isinstance(value, float | int):
                raise TypeError(f"{name} is a {self.name}, not {value!r}")
            try:
                return int.from_bytes(struct.pack(_FLOATS[self.name], value), "little")
            except (OverflowError, struct.error):
                raise OverflowError(f"{name} is a {self.name}, too small for that number") from None
        if self.python is bytes:
            if not isinstance(value, bytes) or len(value) != 1:
                raise TypeError(f"{name} is a char, a byte of type bytes, not {value!r}")
            return int.from_bytes(value, "little", signed=True) & _WORD
        try:
            number = int(value.__index__())
        except AttributeError:
            raise TypeError(f"{name} is of type {self.name}, not {value!r}") from None
        if self.python is bool:
            if number not in (0, 1):
                raise TypeError(f"{name} is a truth value, not {value!r}")
        elif not self.least <= number <= self.greatest:
            raise OverflowError(
                f"{name} is {number}; {self.name} goes from {self.least} to {self.greatest}"
            )
        return number & _WORD  # extended to the whole register, as compilers expect

    def decode(self, word: int) -> Any:
        """Make a value of a word, whatever lies above the low bytes."""
        if self.floating:
            return struct.unpack(_FLOATS[self.name], word.to_bytes(8, "little"))[0]
        low = word & ((1 << (8 * self.size)) - 1)
        if self.python is bool:
            return low != 0
        if self.python is bytes:
            return low.to_bytes(1, "little")
        return low if low <= self.greatest else low - (1 << (8 * self.size))


class Elements:
    """How memory that a pointer leads to crosses.

    Of bytes (`char`, `unsigned char`, `uint8_t`, `void`) Python sees bytes, of other numbers lists,
    of structures dictionaries.

    Args:
        ffi: Knows the type.
        ctype: The type of one element.

    Attributes:
        size: Bytes of an element.
        is_bytes: Python sees bytes.

    Raises:
        DeclarationError: Such memory cannot cross.
    """

    def __init__(self, ffi: FFI, ctype: FFI.CType) -> None:
        self._ffi = ffi
        self.ctype = ctype
        self.is_bytes = ctype.cname in _BYTES
        self.is_structure = ctype.kind == "struct"
        if ctype.kind != "void":
            _require_value(ffi, ctype)
        self.size = 1 if ctype.kind == "void" else ffi.sizeof(ctype.cname)

    def encode(self, name: str, value: Any, *, single: bool) -> bytes | memoryview:
        """Lay a value out.

        Args:
            name: The parameter's, for messages.
            value: A bytes-like object; for numbers and structures, a sequence, too.
            single: It is one element, not a sequence.

        Raises:
            TypeError: It is of another type.
            ValueError: It is no whole number of elements, or has fields that the structure has not.
            OverflowError: A number does not fit.
        """
        if single and not self.is_bytes:
            value = [value]
        elif self.is_bytes or _has_buffer(value):
            return self._view(name, value)
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            raise TypeError(f"{name} is a sequence of {self.ctype.cname}, not {value!r}")
        try:
            array = self._ffi.new(self._ffi.getctype(self.ctype, "[]"), list(value))
        except KeyError as error:
            raise ValueError(f"{name}: {self.ctype.cname} has no field {error}") from None
        except (TypeError, OverflowError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        return bytes(self._ffi.buffer(array))

    def _is_of_our_kind(self, form: str) -> bool:
        """Say whether items of a memoryview's format are numbers as C has them here."""
        if self.ctype.kind != "primitive":
            return True
        codes = "fd" if self.ctype.cname in _FLOATS else "?bBhHiIlLqQnN"
        order, code = (form[0], form[1:]) if form[:1] in tuple("@=<>!") else ("@", form)
        swapped = order in (">", "!") if sys.byteorder == "little" else order == "<"
        return code in tuple(codes) and (not swapped or self.size == 1)

    def _view(self, name: str, value: Any) -> bytes | memoryview:
        try:
            view = memoryview(value)
        except TypeError:
            raise TypeError(f"{name} is a bytes-like object, not {value!r}") from None
        # An array of other numbers would be read as nonsense.
        ours = view.itemsize == self.size and self._is_of_our_kind(view.format)
        if not self.is_bytes and view.format not in ("B", "b", "c") and not ours:
            raise TypeError(
                f"{name} is of {self.ctype.cname}, not of items of format {view.format!r}"
            )
        if view.nbytes % self.size != 0:
            raise ValueError(
                f"{name} has {view.nbytes} bytes, which is no multiple of {self.size}, the size "
                f"of {self.ctype.cname}"
            )
        return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()

    def decode(self, content: bytes, *, single: bool) -> Any:
        """Make a value of memory.

        Raises:
            ValueError: There is no such value (a `bool` that is neither 0 nor 1).
        """
        if self.is_bytes:
            return content
        array = self._ffi.from_buffer(self._ffi.getctype(self.ctype, "[]"), content)
        values = [_plain(self._ffi, element) for element in array]
        return values[0] if single else values


def _has_buffer(value: object) -> bool:
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _plain(ffi: FFI, value: Any) -> Any:
    """Make plain Python of what cffi read."""
    if not isinstance(value, ffi.CData):
        return value
    ctype = ffi.typeof(value)
    if ctype.kind == "array":
        if ctype.item.cname == "char":
            return ffi.string(value)
        if ctype.item.cname in _BYTES:
            return bytes(ffi.buffer(value))
        return [_plain(ffi, element) for element in value]
    return {name: _plain(ffi, getattr(value, name)) for name, field in ctype.fields if name}


def _require_value(ffi: FFI, ctype: FFI.CType) -> None:
    """Refuse what means nothing on the other side of a wall.

    Raises:
        DeclarationError: The reason.
    """
    if ctype.kind in _REFUSED:
        raise DeclarationError(f"{ctype.cname}: {_REFUSED[ctype.kind]}")
    if ctype.kind == "array":
        if not ctype.length:
            raise DeclarationError(f"an array of unknown length ({ctype.cname})")
        _require_value(ffi, ctype.item)
    elif ctype.kind == "struct":
        _require_fields(ffi, ctype)
    else:
        Scalar(ffi, ctype)


def _require_fields(ffi: FFI, ctype: FFI.CType) -> None:
    if ctype.fields is None:
        raise DeclarationError(f"{ctype.cname} is opaque: nothing says what is in it")
    for name, field in ctype.fields:
        if not name:
            raise DeclarationError(f"{ctype.cname} has a member without a name")
        try:
            _require_value(ffi, field.type)
        except DeclarationError as error:
            raise DeclarationError(f"{ctype.cname}, field {name}: {error}") from None
