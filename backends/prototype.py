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
    from collections.abc import Iterator

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
    *("intmax_t", "uintmax_t", "char16_t", "char32_t", "FILE"),
)
_PRELUDE = "".join(f"typedef int {name};\n" for name in _KNOWN)
# What `Sandbox.function` itself takes.
_TAKEN = ("self", "prototype", "declarations", "returns", "on_violation")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)

# What the parser is told that the user's texts are named, to tell their positions from others.
_PROTOTYPE, _DECLARATIONS = "prototype", "declarations"
_POSITION = re.compile(rf"({_PROTOTYPE}|{_DECLARATIONS}):(?:(\d+):(\d+):)? (.*)")
# cffi's are of a text that it makes, and its advice is for those who call it.
_FOREIGN_POSITION = re.compile(r"^(<cdef source string>|\?)?(:\d+)*: ")
_FOREIGN_ADVICE = re.compile(r" *(\(for interactive usage.*|Please look at http.*)$")
# What it raises of types that it cannot lay out.
_OF_CFFI = (
    *(cffi.CDefError, cffi.FFIError, NotImplementedError),
    *(TypeError, ValueError, OverflowError, KeyError),
)


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
        TypeError: It is no text.
    """
    for name, value in (("prototype", text), ("declarations", declarations)):
        if not isinstance(value, str):
            raise TypeError(f"{name} is C, as text, not {value!r}")
    shown = _COMMENT.sub(" ", text).strip().rstrip(";").strip()
    text = _COMMENT.sub(_blanks, text).rstrip().rstrip(";").rstrip()
    declarations = _COMMENT.sub(_blanks, declarations)
    known = f'{_PRELUDE}#line 1 "{_DECLARATIONS}"\n{declarations}\n'
    try:
        first = len(c_parser.CParser().parse(known).ext)
        tree = c_parser.CParser().parse(f'{known}#line 1 "{_PROTOTYPE}"\n{text};')
    except c_parser.ParseError as error:
        raise DeclarationError(f"cannot read {shown!r}: {_said(error, text)}") from None
    declared = tree.ext[first] if len(tree.ext) == first + 1 else None
    if not isinstance(declared, c_ast.Decl) or not isinstance(declared.type, c_ast.FuncDecl):
        raise DeclarationError(f"not the prototype of one function: {shown!r}")
    _require_definitions(tree, declared)
    nodes = _nodes(declared)
    ffi = cffi.FFI()
    try:
        ffi.cdef(declarations)
        ffi.cdef(f"typedef {text};")
        function = ffi.typeof(f"{declared.name} *")
    except _OF_CFFI as error:
        raise DeclarationError(f"cannot use {shown!r}: {_reason(error)}") from None
    parameters = tuple(
        CParameter(_name(declared.name, i, node), ctype, _points_to_const(node), ctype.cname)
        for i, (node, ctype) in enumerate(zip(nodes, function.args, strict=True))
    )
    result = CParameter("", function.result, _points_to_const(declared.type), function.result.cname)
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise DeclarationError(f"{declared.name}: two parameters have one name")
    return Prototype(declared.name, parameters, result, ffi)


def _blanks(comment: re.Match[str]) -> str:
    """Make blanks of a comment, so that what follows it stays where it is."""
    return re.sub(r"[^\n]", " ", comment[0])


def _said(error: Exception, prototype: str) -> str:
    """Say what the parser says, of positions those in the user's texts."""
    message = str(error)
    found = _POSITION.fullmatch(message)
    if found is None:
        return _FOREIGN_POSITION.sub("", message)
    whose, line, column, rest = found.groups()
    lines = prototype.split("\n")
    if whose == _PROTOTYPE and (line, column) == (str(len(lines)), str(len(lines[-1]) + 1)):
        return "it ends too early"
    where = ["declarations="] * (whose == _DECLARATIONS)
    where += [f"line {line}, column {column}"] if line else []
    return (
        f"{', '.join(where)}{': ' if where else ''}{rest} (types that C does not know by itself go "
        "to declarations=)"
    )


def _reason(error: Exception) -> str:
    message = str(error.args[0] if isinstance(error, KeyError) else error).splitlines()[-1]
    return _FOREIGN_ADVICE.sub("", _FOREIGN_POSITION.sub("", message))


def _within(node: c_ast.Node, kind: type) -> Iterator[c_ast.Node]:
    """List the nodes of a kind in a tree."""
    if isinstance(node, kind):
        yield node
    for _, child in node.children():
        yield from _within(child, kind)


def _require_definitions(tree: c_ast.Node, declared: c_ast.Decl) -> None:
    """Want types to be defined, and not by the prototype.

    Raises:
        DeclarationError: The reason.
    """
    for kind, content in ((c_ast.Enum, "values"), (c_ast.Struct, "decls"), (c_ast.Union, "decls")):
        word = kind.__name__.lower()
        for node in _within(declared, kind):
            if getattr(node, content) is not None:
                raise DeclarationError(
                    f"{declared.name}: the prototype defines a type, {word} "
                    f"{node.name or 'without a name'}; define it in declarations=, with a name"
                )
    enums = list(_within(tree, c_ast.Enum))
    defined = {node.name for node in enums if node.values is not None}
    for node in enums:
        if node.name not in defined:
            raise DeclarationError(
                f"{declared.name}: nothing says what values enum {node.name} has; define it in "
                "declarations="
            )


def _nodes(declared: c_ast.Decl) -> list[c_ast.Node]:
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
    if any(isinstance(node, c_ast.ID) for node in nodes):
        raise DeclarationError(f"{declared.name}: its parameters have no types")
    voids = [getattr(getattr(node.type, "type", None), "names", None) == ["void"] for node in nodes]
    if voids == [True] and isinstance(nodes[0], c_ast.Typename):
        return []
    if any(voids):
        raise DeclarationError(f"{declared.name}: parameter {voids.index(True) + 1} is void")
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
