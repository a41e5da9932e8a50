"""A foreign function as it is declared: what each of its parameters is, or why that cannot be.

Everything that depends on the declaration alone is decided and checked here, once; a call
(`backends.marshal`) only has values to lay out.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from backends.marks import DeclarationError, Fixed, In, InOut, Mark, Out, Status
from backends.values import Elements, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backends.prototype import CParameter, Prototype

#: Words on the stack that native/foreign/dispatch.c passes, beyond 6 integers and 8 floats.
STACK_WORDS = 16
#: Bytes of a returned C string that are copied.
STRING_LIMIT = 1 << 16

_ADVICE = "mark it In(...), Out(...), InOut(...) or NULL"


@dataclass(frozen=True, slots=True)
class Number:
    """A number, passed by value."""

    name: str
    scalar: Scalar


@dataclass(frozen=True, slots=True)
class Length:
    """An integer that is told how many elements buffers have."""

    name: str
    scalar: Scalar


@dataclass(frozen=True, slots=True)
class Constant:
    """An argument that the declaration fixes."""

    name: str
    scalar: Scalar | None  # None: a null pointer
    mark: Fixed


@dataclass(frozen=True, slots=True)
class Text:
    """A C string that the function reads."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A pointer to an integer that is told a buffer's capacity, and afterwards tells its length."""

    name: str
    index: int
    scalar: Scalar


@dataclass(frozen=True, slots=True)
class Buffer:
    """A pointer to memory that crosses."""

    name: str
    index: int
    elements: Elements
    mark: In | Out | InOut
    single: bool = False  # one element, by nature and not by number
    cell: Cell | None = None  # that says afterwards how long it is


Argument = Number | Length | Constant | Text | Cell | Buffer


@dataclass(frozen=True)
class Declaration:
    """A foreign function that can be called.

    Attributes:
        symbol: Its name.
        arguments: What it takes, in C's order.
        scalar: What it returns; None: nothing, or a C string.
        returns_string: It returns a C string.
        status: What the return value says of success; None: nothing.
    """

    symbol: str
    arguments: tuple[Argument, ...]
    scalar: Scalar | None
    returns_string: bool
    status: Status | None

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Name what it takes in Python."""
        explained = self.explained_lengths()
        return tuple(
            argument.name
            for argument in self.arguments
            if isinstance(argument, Number | Text)
            or (isinstance(argument, Buffer) and not isinstance(argument.mark, Out))
            or (isinstance(argument, Length) and argument.name not in explained)
        )

    @cached_property
    def results(self) -> tuple[str, ...]:
        """Name what it gives in Python."""
        written = [buffer.name for buffer in self.buffers() if not isinstance(buffer.mark, In)]
        return ("returned",) * self.gives_value() + tuple(written)

    @cached_property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """List the arguments that a capacity or a value which is a function takes, by parameter."""
        return {whose: _wanted(function, whose) for whose, function in _functions(self.arguments)}

    def buffers(self) -> list[Buffer]:
        """List the buffers, in C's order."""
        return [argument for argument in self.arguments if isinstance(argument, Buffer)]

    def returns_length(self) -> bool:
        """Say whether the return value is the length of what was written."""
        return any(getattr(buffer.mark, "returned", False) for buffer in self.buffers())

    def gives_value(self) -> bool:
        """Say whether the return value is a result, the first."""
        value = self.returns_string or (self.scalar is not None and self.status is None)
        return value and not self.returns_length()

    def explained_lengths(self) -> frozenset[str]:
        """Name the lengths that other arguments say, so that they are no parameters."""
        return frozenset(
            buffer.mark.length
            for buffer in self.buffers()
            if isinstance(buffer.mark.length, str)
            and (not isinstance(buffer.mark, Out) or buffer.mark.capacity is not None)
        )


def declare(
    prototype: Prototype, marks: Mapping[str, Mark], returns: Status | None = None
) -> Declaration:
    """Decide what each parameter is.

    Args:
        prototype: The function's C type.
        marks: What the prototype does not say, by the parameter's name.
        returns: What the return value says of success.

    Raises:
        DeclarationError: Something cannot cross a wall, or is not said; the message says which.
        TypeError: A mark or `returns` is none.
    """
    symbol = prototype.symbol
    if not isinstance(returns, Status | None):
        raise TypeError(f"{symbol}: returns is a Status(...), not {returns!r}")
    names = {parameter.name for parameter in prototype.parameters}
    for name in marks:
        if name not in names:
            raise DeclarationError(f"{symbol} has no parameter {name!r}, but {sorted(names)}")
        _require_mark(symbol, name, marks[name])
    lengths = {
        mark.length
        for mark in marks.values()
        if isinstance(mark, In | Out | InOut) and isinstance(mark.length, str)
    }
    for name in lengths - names:
        raise DeclarationError(f"{symbol} has no parameter {name!r} for a length")
    arguments: list[Argument] = []
    index = 0
    for parameter in prototype.parameters:
        mark = marks.get(parameter.name)
        try:
            argument = _argument(
                prototype, parameter, mark, index, is_length=parameter.name in lengths
            )
        except DeclarationError as error:
            raise DeclarationError(f"{symbol}, parameter {parameter.name}: {error}") from None
        index += isinstance(argument, Text | Cell | Buffer)
        arguments.append(argument)
    scalar, returns_string = _result(prototype, returns)
    cells = {argument.name: argument for argument in arguments if isinstance(argument, Cell)}
    declaration = Declaration(
        symbol, tuple(_with_cell(a, cells) for a in arguments), scalar, returns_string, returns
    )
    _check(declaration)
    return declaration


def _require_mark(symbol: str, name: str, mark: object) -> None:
    """Want a mark, whose length and capacity are such.

    Raises:
        TypeError: It is something else.
    """
    whose = f"{symbol}, parameter {name}"
    if not isinstance(mark, Mark):
        raise TypeError(f"{whose}: {_ADVICE}, not {mark!r}")
    if isinstance(mark, Fixed):
        return
    if not isinstance(mark.length, str | int | None):
        raise TypeError(f"{whose}: a length is a name or a number, not {mark.length!r}")
    capacity = None if isinstance(mark, In) else mark.capacity
    if not isinstance(capacity, int | None) and not callable(capacity):
        raise TypeError(f"{whose}: a capacity is a number or a function, not {capacity!r}")


def _argument(
    prototype: Prototype, parameter: CParameter, mark: Mark | None, index: int, *, is_length: bool
) -> Argument:
    if is_length and mark is not None:
        raise DeclarationError("it is the length of another parameter and has a mark itself")
    if isinstance(mark, Fixed):
        return _constant(prototype, parameter, mark)
    if parameter.ctype.kind != "pointer":
        return _value(prototype, parameter, mark, is_length=is_length)
    item = parameter.ctype.item
    if is_length:
        scalar = Scalar(prototype.ffi, item)
        if not scalar.integer:
            raise DeclarationError(f"a length is an integer, and it points to {item.cname}")
        return Cell(parameter.name, index, scalar)
    if mark is None and parameter.const and item.cname == "char":
        return Text(parameter.name, index)
    return _buffer(prototype, parameter, mark, index)


def _constant(prototype: Prototype, parameter: CParameter, mark: Fixed) -> Constant:
    if parameter.ctype.kind in ("pointer", "function"):
        if mark.value is not None:
            raise DeclarationError("the only fixed pointer is NULL")
        return Constant(parameter.name, None, mark)
    scalar = Scalar(prototype.ffi, parameter.ctype)
    if mark.value is None:
        raise DeclarationError(f"NULL for a {scalar.name}; it is no pointer")
    if not callable(mark.value):
        try:
            scalar.encode(parameter.name, mark.value)
        except (TypeError, OverflowError) as error:
            raise DeclarationError(str(error)) from None
    return Constant(parameter.name, scalar, mark)


def _value(
    prototype: Prototype, parameter: CParameter, mark: Mark | None, *, is_length: bool
) -> Number | Length:
    ctype = parameter.ctype
    if ctype.kind in ("struct", "union"):
        raise DeclarationError(
            f"{ctype.cname} by value; wrap the function in one that takes a pointer to it"
        )
    if ctype.kind == "function":
        raise DeclarationError(
            f"{ctype.cname}: a function of this process cannot be called from the sandbox "
            "(callback); NULL can be passed"
        )
    scalar = Scalar(prototype.ffi, ctype)
    if mark is not None:
        raise DeclarationError(f"{type(mark).__name__} is for pointers, and it is {ctype.cname}")
    if not is_length:
        return Number(parameter.name, scalar)
    if not scalar.integer:
        raise DeclarationError(f"a length is an integer, and it is {ctype.cname}")
    return Length(parameter.name, scalar)


def _buffer(
    prototype: Prototype, parameter: CParameter, mark: In | Out | InOut | None, index: int
) -> Buffer:
    if mark is None and parameter.ctype.item.kind == "void":
        raise DeclarationError(f"{parameter.text} may lead to anything: {_ADVICE}")
    elements = Elements(prototype.ffi, parameter.ctype.item)
    if mark is None:
        if not parameter.const:
            raise DeclarationError(
                f"{parameter.text} may be read or written, nothing says how far: {_ADVICE}"
            )
        if not elements.is_structure:
            raise DeclarationError(
                f"{parameter.text} is of unknown extent, how much is read? {_ADVICE}"
            )
        mark = In()
    if parameter.const and not isinstance(mark, In):
        raise DeclarationError(f"{type(mark).__name__}, and what it leads to is const")
    single = mark.length is None
    if not isinstance(mark, In):
        _check_written(mark, elements)
        single = single and mark.capacity is None and not mark.returned
    if single and elements.is_bytes and not (isinstance(mark, InOut) and mark.string):
        raise DeclarationError(
            f"{parameter.text} is of unknown extent: {type(mark).__name__} needs a length"
            + ("" if isinstance(mark, In) else " or a capacity")
        )
    return Buffer(parameter.name, index, elements, mark, single=single and not elements.is_bytes)


def _check_written(mark: Out | InOut, elements: Elements) -> None:
    if mark.string and not elements.is_bytes:
        raise DeclarationError(f"a string is of char, not of {elements.ctype.cname}")
    if mark.string and mark.returned:
        raise DeclarationError("either the zero byte or the return value ends it, not both")
    if isinstance(mark.capacity, int) and mark.capacity < 0:
        raise DeclarationError(f"a capacity of {mark.capacity}")
    if isinstance(mark, Out) and not isinstance(mark.length, str | None):
        raise DeclarationError(f"for a number of elements, Out(capacity={mark.length})")
    if isinstance(mark, Out) and mark.returned and mark.capacity is None and mark.length is None:
        raise DeclarationError(
            "what the function returns is not yet known when it needs room: Out needs a length or "
            "a capacity, too"
        )


def _with_cell(argument: Argument, cells: Mapping[str, Cell]) -> Argument:
    if not isinstance(argument, Buffer) or not isinstance(argument.mark.length, str):
        return argument
    cell = cells.get(argument.mark.length)
    return Buffer(
        argument.name, argument.index, argument.elements, argument.mark, argument.single, cell
    )


def _result(prototype: Prototype, returns: Status | None) -> tuple[Scalar | None, bool]:
    result = prototype.result
    try:
        if result.ctype.kind == "void":
            if returns is not None:
                raise DeclarationError("a Status, and it returns nothing")  # noqa: TRY301
            return None, False
        if result.ctype.kind == "pointer":
            if result.const and result.ctype.item.cname == "char" and returns is None:
                return None, True
            raise DeclarationError(  # noqa: TRY301
                "a pointer would lead to the sandbox's memory; wrap the function in one that "
                "copies what you need (a const char * is copied as a C string)"
            )
        if result.ctype.kind in ("struct", "union"):
            raise DeclarationError("by value; wrap the function in one that writes it to memory")  # noqa: TRY301
        scalar = Scalar(prototype.ffi, result.ctype)
        if returns is not None and not scalar.integer and scalar.python is not bool:
            raise DeclarationError("a Status is an integer")  # noqa: TRY301
    except DeclarationError as error:
        raise DeclarationError(f"{prototype.symbol} returns {result.text}: {error}") from None
    return scalar, False


def _check(declaration: Declaration) -> None:
    symbol = declaration.symbol
    if declaration.returns_length() and (
        declaration.scalar is None or not declaration.scalar.integer or declaration.status
    ):
        raise DeclarationError(f"{symbol} does not return a length, or returns a Status as well")
    floats = sum(
        isinstance(argument, Number | Constant)
        and argument.scalar is not None
        and argument.scalar.floating
        for argument in declaration.arguments
    )
    integers = len(declaration.arguments) - floats
    if max(0, integers - 6) + max(0, floats - 8) > STACK_WORDS:
        raise DeclarationError(
            f"{symbol} has too many parameters: 6 integers or pointers, 8 floating ones and "
            f"{STACK_WORDS} of any kind beyond those can be passed"
        )
    for buffer in declaration.buffers():
        cell = buffer.cell
        if cell is not None and isinstance(buffer.mark, Out) and buffer.mark.capacity is None:
            raise DeclarationError(
                f"{symbol}, parameter {buffer.name}: what should {cell.name} begin with? "
                "Out needs a capacity"
            )
        if cell is not None and getattr(buffer.mark, "returned", False):
            raise DeclarationError(
                f"{symbol}, parameter {buffer.name}: either {cell.name} or the return value is its "
                "length, not both"
            )
    for whose, names in declaration.wants.items():
        for name in names:
            if name not in declaration.parameters:
                raise DeclarationError(
                    f"{symbol}, parameter {whose}: {name!r} is none of the arguments in Python: "
                    f"{', '.join(declaration.parameters) or 'there are none'}"
                )


def _functions(arguments: tuple[Argument, ...]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for argument in arguments:
        value: Any = None
        if isinstance(argument, Constant):
            value = argument.mark.value
        elif isinstance(argument, Buffer) and not isinstance(argument.mark, In):
            value = argument.mark.capacity
        if callable(value):
            yield argument.name, value


def _wanted(function: Callable[..., Any], whose: str) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        raise DeclarationError(
            f"parameter {whose}: {function!r} does not say what it takes; write a lambda"
        ) from None
