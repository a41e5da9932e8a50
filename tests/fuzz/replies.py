"""A fuzz target for replies to declared functions: what hostile foreign code sends back.

Byte 0 says which function is called, modulo their number; byte 1 how the call ends, see `ENDINGS`;
the rest is the reply. Whatever it is, the caller gets a result that fits the declaration or one of
the documented exceptions, and a sandbox that has broken the protocol is not called again.
"""

from __future__ import annotations

from typing import Any

from backends import ForeignError, In, InOut, Out, Sandbox, Status, ViolationError
from backends.contract import Backend, Fault, ViolationKind
from backends.contract import Sandbox as OpenSandbox

STRUCTURE = "struct point { int16_t x; double y; _Bool set; char name[4]; uint32_t more[2]; };"

FUNCTIONS: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    (
        "int reverse(const char *input, size_t n, char *output, size_t *written)",
        {"input": In(length="n"), "output": Out(capacity=8, length="written"), "returns": Status()},
        (b"abc",),
    ),
    ("const char *name_of(int number)", {}, (1,)),
    ("void greet(char *text)", {"text": Out(capacity=8, string=True)}, ()),
    ("int take(short *p)", {"p": Out(capacity=4, returned=True)}, ()),
    ("int8_t small(void)", {}, ()),
    ("_Bool truth(void)", {}, ()),
    ("char letter(void)", {}, ()),
    ("double real(float x)", {}, (1.5,)),
    ("float single(void)", {}, ()),
    ("void nothing(void)", {}, ()),
    ("_Bool flags(_Bool *p)", {"p": Out(capacity=3)}, ()),
    (
        "void swap(struct point *p)",
        {"p": InOut(), "declarations": STRUCTURE},
        ({"x": 1, "y": 2.0},),
    ),
    (
        "long points(struct point *p, int64_t *count)",
        {"p": Out(capacity=2, length="count"), "declarations": STRUCTURE},
        (),
    ),
    ("int edit(char *text, int n)", {"text": InOut(string=True, capacity=16)}, (b"abc", 3)),
    (
        "const char *both(double *out, int32_t *n)",
        {"out": Out(capacity=4, length="n")},
        (),
    ),
]

ENDINGS = ("reply", "reply", "reply", "no memory", "error", "violation")


class _Forging(OpenSandbox):
    def __init__(self, forger: _Forger) -> None:
        self._forger = forger
        self._broken = False

    def call(self, function: Any, data: Any = b"", *, timeout: float | None = None) -> bytes:
        del data, timeout
        assert not self._broken, "called again after it broke the protocol"
        ending, reply = self._forger.answer
        if ending == "reply":
            return reply
        if ending == "violation":
            raise ViolationError(function.symbol, Fault(ViolationKind.SIGNAL, signal=11))
        raise ForeignError(function.symbol, 1 if ending == "no memory" else 2)

    def address_of(self, function: Any) -> int:
        del function
        return 1 << 40

    def close(self) -> None:
        self._broken = True


class _Forger(Backend):
    answer: tuple[str, bytes] = ("reply", b"")

    def open(self, functions: Any) -> OpenSandbox:
        del functions
        return _Forging(self)


_FORGER = _Forger("forger", "Answers what the fuzzer likes.", "none")
_SANDBOX = Sandbox("libforged.so", backend=_FORGER)
_CALLS = [
    (_SANDBOX.function(prototype, **marks), arguments) for prototype, marks, arguments in FUNCTIONS
]


def _size(value: Any) -> int:
    """Count what a result is made of: bytes and numbers."""
    if isinstance(value, list | tuple):
        return 1 + sum(map(_size, value))
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return len(value) if isinstance(value, bytes) else 1


def check(data: bytes) -> None:
    """Make the call that the input describes."""
    if len(data) < 2:
        return
    function, arguments = _CALLS[data[0] % len(_CALLS)]
    reply = data[2:]
    object.__setattr__(_FORGER, "answer", (ENDINGS[data[1] % len(ENDINGS)], reply))
    for _ in range(2):
        try:
            result = function(*arguments)
        except ViolationError as violation:
            assert violation.function == function.__name__
            assert str(violation)
        except ForeignError as error:
            assert error.function == function.__name__
        except MemoryError:
            assert _FORGER.answer[0] == "no memory"
        else:
            assert _FORGER.answer[0] == "reply"
            assert _size(result) <= 16 + len(reply)
