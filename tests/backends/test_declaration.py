"""What cannot cross a wall is refused when it is declared, and the message says why."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Annotated

import pytest

import backends
from backends import (
    NULL,
    DeclarationError,
    Fixed,
    In,
    InOut,
    Out,
    Sandbox,
    Status,
    UnsupportedError,
)
from backends.contract import Backend

TYPES = """
typedef int (*callback)(int);
struct opaque;
struct pair { int first, second; };
struct linked { int value; struct linked *next; };
struct hooked { callback hook; };
union either { int number; float fraction; };
struct tagged { int tag; union either value; };
struct wide { long double value; };
struct nested { struct linked inner; };
struct open_ended { int count; int values[]; };
enum colour { RED };
typedef enum { GOOD, BAD } mood;
struct felt { enum { COLD, WARM } felt; mood mood; };
int declared_before(int a);
"""

REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    # what a call cannot pass
    "variadic": ("int printf(const char *format, ...)", {}, "variable number of arguments"),
    "callback": ("void each(callback f)", {}, "callback"),
    "callback, written out": ("void each(int (*f)(int))", {}, "callback"),
    "structure by value": ("void f(struct pair p)", {}, "by value"),
    "union by value": ("void f(union either e)", {}, "by value"),
    "long double": ("void f(long double x)", {}, "float and double only"),
    "complex": ("void f(float _Complex x)", {}, "float and double only|cannot read"),
    "wide character": ("void f(wchar_t c)", {}, "wide"),
    "too many": (f"void f({', '.join(f'int a{i}' for i in range(23))})", {}, "too many"),
    # what a call cannot return
    "returns a structure": ("struct pair f(void)", {}, "by value"),
    "returns a pointer": ("void *f(void)", {}, "sandbox's memory"),
    "returns a writable string": ("char *f(void)", {}, "sandbox's memory"),
    "returns a long double": ("long double f(void)", {}, "float and double only"),
    # what memory cannot hold
    "pointer to a pointer": ("void f(char **p)", {"p": Out()}, "other side's memory"),
    "array of pointers": ("void f(char *p[4])", {"p": In(length=4)}, "other side's memory"),
    "structure with a pointer": (
        "void f(struct linked *l)",
        {"l": InOut()},
        "field next: .*other side's memory",
    ),
    "pointer deep in a structure": (
        "void f(struct nested *n)",
        {"n": Out()},
        "field inner: .*next",
    ),
    "structure with a callback": (
        "void f(struct hooked *h)",
        {"h": Out()},
        "field hook: .*callback",
    ),
    "union": ("void f(union either *e)", {"e": Out()}, "which member"),
    "structure with a union": (
        "void f(struct tagged *t)",
        {"t": Out()},
        "field value: .*which member",
    ),
    "structure with a long double": (
        "void f(struct wide *w)",
        {"w": Out()},
        "field value: .*double",
    ),
    "opaque structure": ("void f(struct opaque *o)", {"o": Out()}, "opaque"),
    "flexible array": (
        "void f(struct open_ended *o)",
        {"o": Out()},
        "field values: .*unknown length",
    ),
    # what is not said
    "unmarked char *": ("void f(char *p)", {}, "nothing says how far"),
    "unmarked int *": ("void f(int *p)", {}, "nothing says how far"),
    "unmarked void *": ("void f(void *p)", {}, "may lead to anything"),
    "unmarked const void *": ("void f(const void *p)", {}, "may lead to anything"),
    "unmarked const int *": ("void f(const int *p)", {}, "unknown extent"),
    "unmarked const uint8_t *": ("void f(const uint8_t *p)", {}, "unknown extent"),
    "bytes in without length": ("void f(const void *p)", {"p": In()}, "needs a length"),
    "bytes out without capacity": ("void f(char *p)", {"p": Out()}, "length or a capacity"),
    "bytes changed without length": ("void f(char *p)", {"p": InOut()}, "length or a capacity"),
    "no parameters": ("int f()", {}, r"write \(void\)"),
    "no name": ("int f(int)", {}, "has no name"),
    "pointer of a length without capacity": (
        "void f(char *p, size_t *n)",
        {"p": Out(length="n")},
        "needs a capacity",
    ),
    "returned without room": (
        "int f(char *p)",
        {"p": Out(returned=True)},
        "needs a length or a capacity",
    ),
    # what contradicts itself
    "out and const": ("void f(const char *p)", {"p": Out(capacity=1)}, "is const"),
    "mark on a number": ("void f(int n)", {"n": In()}, "is for pointers"),
    "mark of nothing": ("void f(int n)", {"m": In()}, "no parameter 'm'"),
    "length of nothing": ("void f(const void *p)", {"p": In(length="n")}, "no parameter 'n'"),
    "length that is no integer": (
        "void f(const void *p, double n)",
        {"p": In(length="n")},
        "a length is an integer",
    ),
    "length that points to no integer": (
        "void f(char *p, double *n)",
        {"p": Out(capacity=1, length="n")},
        "a length is an integer",
    ),
    "length with a mark": (
        "void f(char *p, size_t *n)",
        {"p": Out(capacity=1, length="n"), "n": Out()},
        "has a mark itself",
    ),
    "fixed length": (
        "void f(const void *p, size_t n)",
        {"p": In(length="n"), "n": Fixed(5)},
        "has a mark itself",
    ),
    "length of a result in numbers": (
        "void f(char *p)",
        {"p": Out(length=5)},
        r"Out\(capacity=5\)",
    ),
    "string of integers": ("void f(int *p)", {"p": Out(capacity=4, string=True)}, "of char"),
    "two ends": (
        "int f(char *p)",
        {"p": Out(capacity=4, string=True, returned=True)},
        "not both",
    ),
    "two lengths": (
        "int f(char *p, size_t *n)",
        {"p": Out(capacity=4, length="n", returned=True)},
        "not both",
    ),
    "negative capacity": ("void f(char *p)", {"p": Out(capacity=-1)}, "capacity of -1"),
    "returned by void": (
        "void f(char *p)",
        {"p": Out(capacity=4, returned=True)},
        "not return a length",
    ),
    "returned and a status": (
        "int f(char *p)",
        {"p": Out(capacity=4, returned=True), "returns": Status()},
        "not return a length",
    ),
    "status of void": ("void f(void)", {"returns": Status()}, "returns nothing"),
    "status of a double": ("double f(void)", {"returns": Status()}, "Status is an integer"),
    "null number": ("void f(int n)", {"n": NULL}, "no pointer"),
    "fixed pointer": ("void f(char *p)", {"p": Fixed(5)}, "only fixed pointer"),
    "fixed number too large": ("void f(int8_t n)", {"n": Fixed(128)}, "goes from -128 to 127"),
    "capacity of other arguments": (
        "void f(char *p)",
        {"p": Out(capacity=lambda size: size)},
        "'size' is none of the arguments",
    ),
    "capacity that says nothing": (
        "void f(char *p)",
        {"p": Out(capacity=int)},
        "write a lambda|none of",
    ),
    "a keyword of Python": ("void f(int from)", {}, "'from' cannot name a parameter"),
    "a name that declaring takes": ("void f(int returns)", {}, "'returns' cannot name a parameter"),
    # what is not defined, or in the wrong place
    "enumeration from nowhere": ("void f(enum nowhere e)", {}, "values enum nowhere has"),
    "returned enumeration from nowhere": ("enum nowhere f(void)", {}, "values enum nowhere has"),
    "pointer to an enumeration from nowhere": (
        "void f(enum nowhere *e)",
        {"e": Out()},
        "values enum nowhere has",
    ),
    "enumeration defined on the way": (
        "void f(enum mood { GOOD } m)",
        {},
        "defines a type, enum mood; define it in declarations=",
    ),
    "enumeration without a name": ("void f(enum { GOOD } m)", {}, "defines a type, enum without"),
    "returned enumeration without a name": ("enum { GOOD } f(int a)", {}, "defines a type, enum"),
    "structure defined on the way": (
        "void f(struct spot { int x; } *s)",
        {"s": Out()},
        "defines a type, struct spot",
    ),
    "structure without a name": (
        "void f(struct { int x; } *s)",
        {"s": Out()},
        "defines a type, struct without",
    ),
    "union without a name": ("union { int x; } f(void)", {}, "defines a type, union without"),
    "opaque structure by value": ("void f(struct opaque o)", {}, "incomplete"),
    "returns an opaque structure": ("struct opaque f(void)", {}, "struct opaque"),
    "void with a name": ("void f(void v)", {}, "parameter 1 is void"),
    "void among others": ("void f(int a, void)", {}, "parameter 2 is void"),
    "old style": ("int f(a, b)", {}, "no types"),
    "array beyond memory": (
        "void f(int (*p)[4611686018427387905])",
        {"p": In()},
        "overflow",
    ),
    # what cannot be read
    "no function": ("int n", {}, "not the prototype"),
    "two functions": ("int f(void); int g(void)", {}, "not the prototype"),
    "two functions at once": ("int f(int a), g(int b)", {}, "not the prototype"),
    "a variable beside it": ("int *p, f(int a)", {}, "not the prototype"),
    "a whole function": ("int f(int a) { return a; }", {}, "not the prototype"),
    "a type": ("typedef int f(int a)", {}, "not the prototype"),
    "nothing": (" /* nothing */ ;", {}, "not the prototype"),
    "not C": ("def f(x): pass", {}, "cannot read"),
    "unknown type": ("void f(unknown_t *p)", {}, "cannot read"),
    "one name twice": ("void f(int a, int a)", {}, "one name|cannot read"),
}


@pytest.fixture
def sandbox() -> Sandbox:
    """Of a library that is never loaded."""
    return Sandbox("libnothing.so", backend="none")


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_reason(sandbox: Sandbox, case: str) -> None:
    prototype, marks, reason = REFUSED[case]
    with pytest.raises(DeclarationError, match=reason) as raised:
        sandbox.function(prototype, declarations=TYPES, **marks)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("prototype", "declarations", "said"),
    [
        ("int f(unknown_t a)", "", "line 1, column 17: before: a "),
        ("  int f(unknown_t a)", "", "line 1, column 19: before: a "),
        ("int /* of\nold */ f( // so\n  unknown_t a)", "", "line 3, column 13: before: a "),
        ("int f(int a = 3)", "", "line 1, column 13: before: = "),
        ("int f(int a", "", ": it ends too early"),
        ("int f(int a)", "struct s {\n  int x;\n  @;\n};", "declarations=, line 3, column 3: "),
        ("int f(int a)", "typedef int word; }", "declarations=, line 1, column 19: before: } "),
    ],
)
def test_positions_are_those_in_the_text_that_was_given(
    sandbox: Sandbox, prototype: str, declarations: str, said: str
) -> None:
    with pytest.raises(DeclarationError, match=re.escape(said)):
        sandbox.function(prototype, declarations=declarations)


@pytest.mark.parametrize(
    ("prototype", "declarations"),
    [
        ("int f(int a[n])", ""),  # cffi's errors are of a text that it makes
        ("int f(__int128 a)", ""),
        ("int f(struct s *s)", "struct s { int a; };\nstruct s { int b; };"),
        ("int f(int a)", "enum e { A };\n\nenum f { B, A };"),
        ("int f(int a)", "enum e { A = sizeof(int) };"),
        ("int f(struct s *s)", "struct s { int a; int a; };"),
        ("int f(struct s *s)", "struct s { struct opaque a; };"),
        ("int f(struct s *s)", "struct s { int a[-1]; };"),
        ("int f(struct s *s)", "struct s { int a : 40; };"),
        ("int f(struct s *s)", "struct s { enum nowhere e; };"),
        ("int f(int a,)", ""),
        ("int f(int a)", "struct s {"),
        ("int f(int a)", "#include <stdio.h>"),
    ],
)
def test_texts_that_the_user_did_not_write_are_not_spoken_of(
    sandbox: Sandbox, prototype: str, declarations: str
) -> None:
    with pytest.raises(DeclarationError) as raised:
        sandbox.function(prototype, declarations=declarations)
    found = re.search(r"line (\d+)", str(raised.value))
    assert found is None or int(found[1]) == 1
    assert not re.search(r" :\d|cdef|typedef|http|\n", str(raised.value))


def test_what_is_of_the_wrong_type_is_told_by_its_name(sandbox: Sandbox) -> None:
    take = "void f(const void *p, size_t n)"
    for prototype, given, reason in (
        (b"void f(void)", {}, "prototype is C"),
        (take, {"declarations": 1}, "declarations is C"),
        (take, {"returns": 0}, "returns is a Status"),
        (take, {"p": "n"}, "f, parameter p: mark it In"),
        (take, {"p": In}, "f, parameter p: mark it In"),
        (take, {"p": In(length=2.5)}, "f, parameter p: a length is"),
        ("void f(char *p)", {"p": Out(capacity="n")}, "f, parameter p: a capacity is"),
    ):
        with pytest.raises(TypeError, match=reason):
            sandbox.function(prototype, **given)
    with pytest.raises(TypeError, match="by a function, not by 5"):
        sandbox.declare("void f(void)")(5)


@pytest.mark.parametrize(
    ("prototype", "marks", "signature"),
    [
        ("void f(void)", {}, "()"),
        ("int f(int a, unsigned long b)", {}, "(a, b)"),
        ("extern int f(int a);", {}, "(a)"),
        ("int /* count */ f(int a) // of a", {}, "(a)"),
        ("void f(callback f, int n)", {"f": NULL}, "(n)"),
        ("void f(const char *s, size_t n)", {"s": In(length="n")}, "(s)"),
        ("void f(char *s, size_t n)", {"s": Out(length="n")}, "(n)"),
        ("void f(char *s, size_t n)", {"s": Out(length="n", capacity=3)}, "()"),
        ("void f(const struct pair *p, struct pair *q)", {"q": Out()}, "(p)"),
        ("void f(double m[16])", {"m": InOut(length=16)}, "(m)"),
        ("void f(int a, int b)", {"b": Fixed(lambda a: a + 1)}, "(a)"),
        ("enum colour f(enum colour *a, mood b)", {"a": In()}, "(a, b)"),
        ("void f(struct felt *f)", {"f": Out()}, "()"),
        ("int declared_before(int a)", {}, "(a)"),
    ],
)
def test_the_python_signature_has_what_is_left(
    sandbox: Sandbox, prototype: str, marks: dict[str, object], signature: str
) -> None:
    function = sandbox.function(prototype, declarations=TYPES, **marks)
    assert str(function.__signature__) == signature
    with pytest.raises(TypeError):
        function(1, 2, 3, 4)


def test_a_python_function_that_does_not_fit_is_refused(sandbox: Sandbox) -> None:
    def other_name(n: int) -> int: ...
    def unannotated(count) -> int: ...
    def other_type(count: str) -> int: ...
    def gives_nothing(count: int) -> None: ...

    for function, reason in (
        (other_name, "declared with"),
        (unannotated, "no annotation"),
        (other_type, "is int, and is annotated str"),
        (gives_nothing, "gives returned"),
    ):
        with pytest.raises(DeclarationError, match=reason):
            sandbox.declare("int f(int count)")(function)

    def means_nothing(count: Nothing) -> int: ...  # noqa: F821

    with pytest.raises(DeclarationError, match="'Nothing' is not defined"):
        sandbox.declare("int f(int count)")(means_nothing)

    def out_of_text(text: bytes, room: Annotated[int, "a note"]) -> bytes: ...

    sandbox.declare("void f(const char *text, char *out, int room)", out=Out(length="room"))(
        out_of_text
    )


def test_what_cannot_be_a_wall_is_refused() -> None:
    with pytest.raises(LookupError, match="no backend 'paper'"):
        Sandbox("libm.so.6", backend="paper")
    with pytest.raises(UnsupportedError, match="reference"):
        Sandbox("libm.so.6", backend="pipe-floor")
    for name in ("sandcrust-pipe", "none"):
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="timeout must be positive"):
                Sandbox("libm.so.6", backend=name, timeout=wrong)
        for wrong in ("1", b"1", [1], 1j, True):
            with pytest.raises(TypeError, match="timeout is a number of seconds"):
                Sandbox("libm.so.6", backend=name, timeout=wrong)
    for wrong in (None, 5, Backend):
        with pytest.raises(TypeError, match="backend is a wall or its name"):
            Sandbox("libm.so.6", backend=wrong)
    with pytest.raises(TypeError, match="library is a path or a name"):
        Sandbox(b"libm.so.6", backend="none")


def test_one_class_has_two_names() -> None:
    assert backends.DomainViolation is backends.ViolationError
    with pytest.raises(AttributeError, match="nothing"):
        _ = backends.nothing  # type: ignore[attr-defined]


def test_importing_the_package_stays_light() -> None:
    program = (
        "import sys, backends; print({'cffi', 'pycparser', 'backends.native'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
