"""The Python function that declares a foreign one: its marks, and whether it fits."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from backends.declaration import Buffer, Declaration, Length, Number
from backends.marks import DeclarationError, Mark

if TYPE_CHECKING:
    import inspect


def mark_of(hint: Any) -> Mark | None:
    """Find the mark in an annotation, which is `Annotated` if it has one."""
    marks = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Mark)]
    return marks[0] if marks else None


def compare(declaration: Declaration, signature: inspect.Signature, hints: dict[str, Any]) -> None:
    """Compare the Python function with the C function that it declares.

    Raises:
        DeclarationError: They do not fit.
    """
    names = tuple(signature.parameters)
    if names != declaration.parameters:
        raise DeclarationError(
            f"{declaration.symbol} takes ({', '.join(declaration.parameters)}) in Python, and is "
            f"declared with ({', '.join(names)})"
        )
    for argument in declaration.arguments:
        if argument.name not in names:
            continue
        if argument.name not in hints:
            raise DeclarationError(f"parameter {argument.name} has no annotation")
        hint = hints[argument.name]
        hint = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        wanted = _python_types(argument)
        if isinstance(hint, type) and wanted and hint not in wanted:
            raise DeclarationError(
                f"parameter {argument.name} is {' or '.join(t.__name__ for t in wanted)}, and is "
                f"annotated {hint.__name__}"
            )
    if "return" in hints and (hints["return"] is type(None)) != (not declaration.results):
        raise DeclarationError(
            f"{declaration.symbol} gives {', '.join(declaration.results) or 'nothing'}, and is "
            f"annotated {hints['return']}"
        )


def _python_types(argument: object) -> tuple[type, ...]:
    """List the plain classes that an annotation may name; () is any."""
    match argument:
        case Number(_, scalar):
            return (scalar.python,)
        case Length():
            return (int,)
        case Buffer():
            is_bytes = argument.elements.is_bytes
            return (bytes, bytearray, memoryview) if is_bytes else ()
    return (str, bytes)  # a C string
