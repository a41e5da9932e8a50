"""Reading C prototypes: pycparser for names and `const`, cffi for sizes and layouts."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cffi
from pycparser import c_ast, c_parser

from backends.marks import DeclarationError

if TYPE_CHECKING:
    from cffi import FFI

# What cffi knows without being told, and pycparser does not.
_KNOWN = (
    *("bool", "size_t", "ssize_t", "ptrdiff_t", "intptr_t", "uintptr_t", "wchar_t"),
    *(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(
        f"{sign}int_{kind}{bits}_t"
        for sign in ("", "u")
        for kind in ("least", "fast")
        for bits in (8, 16, 32, 64)
    ),
    *("intmax_t", "uintmax_t", "char16_t", "char32_t", "FILE", "va_list"),
)
_PRELUDE = "".join(f"typedef int {name};\n" for name in _KNOWN)
# What `Sandbox.function` itself takes.
_TAKEN = ("self", "prototype", "declarations", "returns", "on_violation")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CParameter:
    """A parameter, or what a function returns (then without a name).

    Attributes:
        name: Its name.
        ctype: Its type.
        const: What it points to is const.
        text: Its type as it was written, for messages.
    """

    name: str
    ctype: FFI.CType
    const: bool
    text: str


@dataclass(frozen=True, slots=True)
class Prototype:
    """A function's C type.

    Attributes:
        symbol: The function's name.
        parameters: What it takes.
        result: What it returns.
        ffi: Knows the types.
    """

    symbol: str
    parameters: tuple[CParameter, ...]
    result: CParameter
    ffi: FFI


def read(text: str, declarations: str = "") -> Prototype:
    """Read a prototype.

    Args:
        text: As in a header: `int f(const char *input, size_t length)`.
        declarations: C declarations of the types that it uses.

    Raises:
        DeclarationError: It cannot be read, or is a type that no call here can have.
    """
    text = _COMMENT.sub(" ", text).strip().rstrip(";").strip()
    declarations = _COMMENT.sub(" ", declarations)
    ffi = cffi.FFI()
    try:
        tree = c_parser.CParser().parse(f"{_PRELUDE}{declarations}\ntypedef {text};")
        declared = tree.ext[-1] if tree.ext else None
        if not isinstance(declared, c_ast.Typedef) or not isinstance(declared.type, c_ast.FuncDecl):
            raise DeclarationError(f"not the prototype of one function: {text!r}")
        ffi.cdef(f"{declarations}\ntypedef {text};")
        function = ffi.typeof(f"{declared.name} *")
    except (c_parser.ParseError, cffi.CDefError, cffi.FFIError, NotImplementedError) as error:
        raise DeclarationError(
            f"cannot read {text!r}: {error} (types that C does not know by itself go to "
            "declarations=)"
        ) from error
    nodes = _nodes(declared)
    parameters = tuple(
        CParameter(_name(declared.name, i, node), ctype, _points_to_const(node), ctype.cname)
        for i, (node, ctype) in enumerate(zip(nodes, function.args, strict=True))
    )
    result = CParameter("", function.result, _points_to_const(declared.type), function.result.cname)
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise DeclarationError(f"{declared.name}: two parameters have one name")
    return Prototype(declared.name, parameters, result, ffi)


def _nodes(declared: c_ast.Typedef) -> list[c_ast.Node]:
    if declared.type.args is None:
        raise DeclarationError(
            f"{declared.name}() does not say what it takes; write (void) if that is nothing"
        )
    nodes: list[c_ast.Node] = declared.type.args.params
    if any(isinstance(node, c_ast.EllipsisParam) for node in nodes):
        raise DeclarationError(
            f"{declared.name} takes a variable number of arguments (...), whose types the "
            "prototype does not say; wrap it in a C function that takes what you need"
        )
    first = nodes[0]
    alone = len(nodes) == 1 and isinstance(first, c_ast.Typename)
    if alone and getattr(getattr(first.type, "type", None), "names", None) == ["void"]:
        return []
    return nodes


def _name(symbol: str, index: int, node: c_ast.Node) -> str:
    name = getattr(node, "name", None)
    if not name:
        raise DeclarationError(f"{symbol}: parameter {index + 1} has no name; give it one")
    if keyword.iskeyword(name) or name in _TAKEN:
        raise DeclarationError(
            f"{symbol}: {name!r} cannot name a parameter here; give it another name, those in a "
            "prototype are free"
        )
    return str(name)


def _points_to_const(node: c_ast.Node) -> bool:
    """Say whether what a declaration's outermost pointer leads to is const."""
    pointer = node.type
    if not isinstance(pointer, c_ast.PtrDecl | c_ast.ArrayDecl):
        return False
    return "const" in getattr(pointer.type, "quals", ())
