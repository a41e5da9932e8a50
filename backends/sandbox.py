"""A library behind a wall, whose functions are declared once and called like Python functions.

After the `sandbox!` macro of "Friend or Foe Inside?" (SecDev 2023). docs/sandbox.md is the guide.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import typing
import warnings
import weakref
from collections import namedtuple
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from backends import command, native, registry
from backends.annotations import compare, mark_of
from backends.contract import (
    Backend,
    Fault,
    ForeignError,
    ForeignFunction,
    Rights,
    SandboxClosedError,
    UnsupportedError,
    ViolationError,
    ViolationKind,
    require_timeout,
)
from backends.contract import Sandbox as OpenSandbox
from backends.declaration import Declaration, declare
from backends.marks import DeclarationError, Mark, Status
from backends.marshal import NO_MEMORY, Call, MalformedReplyError
from backends.prototype import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.protected_memory import DataDomain

P = ParamSpec("P")
R = TypeVar("R")

_DISPATCH = ForeignFunction(native.DISPATCH, "dispatch_call")


class _Default(Enum):
    RAISE = "raise"


#: Of `on_violation`: raise it.
RAISE = _Default.RAISE

# Bytes. A sandbox that has not even so much left was filled by its library, or it lies: either way
# it is at fault, and a fresh one has the memory.
_SOME_MEMORY = 1 << 20

# All sandboxes, so that fork() in the user's program can give each a lock that is not held.
_sandboxes: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _after_fork() -> None:
    for sandbox in list(_sandboxes):
        sandbox.after_fork()


os.register_at_fork(after_in_child=_after_fork)


class Sandbox:
    """A library behind a wall. A context manager; thread-safe.

    The wall is opened by the first call, for the functions that are declared by then. Declaring
    another one later opens it again, and what the library kept in its memory is lost, as it is
    after a violation.

    Args:
        library: A path, if there is a slash in it; or a name that the dynamic loader finds.
        backend: The wall, or its name; `isobench list` shows them.
        timeout: Limit of each call in seconds; None for none. No wall, no limit: under `none` it is
            not enforced, and a RuntimeWarning says so.

    Raises:
        LookupError: There is no such backend.
        UnsupportedError: It does not work on this machine, runs no foreign functions, or is a wall
            that cannot limit a call in time.
        ValueError: The limit is not positive.
        TypeError: The library is no path, the wall no backend, or the limit no number.
    """

    def __init__(
        self,
        library: str | os.PathLike[str],
        *,
        backend: str | Backend,
        timeout: float | None = None,
    ) -> None:
        self._wall = registry.find(backend) if isinstance(backend, str) else backend
        if not isinstance(self._wall, Backend):
            raise TypeError(f"backend is a wall or its name, not {backend!r}")
        text = os.fspath(library)
        if not isinstance(text, str):
            raise TypeError(f"library is a path or a name, as text, not {library!r}")
        self._library = Path(text).absolute() if os.sep in text else Path(text)
        self._timeout = _limit(self._wall, timeout)
        self._functions: list[ForeignFunction] = []
        self._addresses: dict[ForeignFunction, int] = {}
        self._granted: weakref.WeakKeyDictionary[DataDomain, Rights] = weakref.WeakKeyDictionary()
        self._open: OpenSandbox | None = None
        self._closed = False
        self._lock = threading.RLock()
        _sandboxes.add(self)

    def __repr__(self) -> str:
        return f"<Sandbox of {self._library} under {self._wall.name}>"

    def function(
        self,
        prototype: str,
        *,
        declarations: str = "",
        returns: Status | None = None,
        on_violation: Any = RAISE,
        **marks: Mark,
    ) -> Function:
        """Declare a function of the library.

        Args:
            prototype: As in a header: `int f(const char *input, size_t length)`.
            declarations: C declarations of the types that it uses.
            returns: What the return value says of success; None: it is a result.
            on_violation: What a call returns if the function misbehaves; if not given, that is a
                ViolationError.
            marks: What the prototype does not say, by the parameter's name.

        Raises:
            DeclarationError: Something cannot cross a wall, or is not said; the message says which.
            TypeError: A prototype is no text, or a mark or `returns` is none.
        """
        declaration = declare(read(prototype, declarations), marks, returns)
        parameters = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in declaration.parameters
        ]
        return self._declared(
            declaration, inspect.Signature(parameters), on_violation, prototype.strip()
        )

    def declare(
        self,
        prototype: str,
        *,
        declarations: str = "",
        returns: Status | None = None,
        on_violation: Any = RAISE,
        **marks: Mark,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Declare a function of the library by a Python function, whose body is not used.

        Its parameters are those that are left in Python, under the same names, with annotations
        that type checkers see; a mark may stand there: `data: Annotated[bytes, In(length="n")]`.

        Args and errors are those of `function`, and:

        Raises:
            DeclarationError: The Python function has other parameters, or of other types.
        """

        def decorate(python: Callable[P, R]) -> Callable[P, R]:
            if not inspect.isfunction(python):
                raise TypeError(f"a foreign function is declared by a function, not by {python!r}")
            try:
                hints = typing.get_type_hints(python, include_extras=True)
            except NameError as error:
                raise DeclarationError(
                    f"an annotation of {python.__name__} means nothing at run time: {error}"
                ) from None
            known = {name: mark_of(hint) for name, hint in hints.items() if name != "return"}
            written = {name: mark for name, mark in known.items() if mark is not None}
            declaration = declare(read(prototype, declarations), {**written, **marks}, returns)
            signature = inspect.signature(python)
            compare(declaration, signature, hints)
            made = self._declared(declaration, signature, on_violation, python.__doc__ or "")
            made.__name__ = python.__name__
            made.__qualname__ = python.__qualname__
            made.__module__ = python.__module__
            return typing.cast("Callable[P, R]", made)

        return decorate

    def grant(self, data: DataDomain, rights: Rights) -> None:
        """Say what the library may do with a data domain, from the next call on.

        It stays so until the data domain is closed, also where the wall is opened again. A function
        finds the memory at `data.address`, which it takes as a number (`uintptr_t`).

        Args:
            data: Memory under a protection key, which is closed to libraries unless granted.
            rights: `none`, `read`, or `write`, which is reading, too.

        Raises:
            UnsupportedError: The wall is not made of protection keys.
            SandboxClosedError: The sandbox is closed.
            ValueError: The data domain is closed, or there are no such rights.
            OSError: The wall cannot be opened.
        """
        with self._lock:
            self._opened().grant(data, rights)
            self._granted[data] = rights

    def close(self) -> None:
        """End the sandbox. Closing twice is fine."""
        with self._lock:
            self._end()
            self._closed = True

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """End what was forgotten; unlike a file, it has nothing that could be lost."""
        if getattr(self, "_open", None) is not None:
            self.close()

    def after_fork(self) -> None:
        """Forget, in a process just forked, what the other threads of the old one were doing."""
        self._lock = threading.RLock()

    def _declared(
        self, declaration: Declaration, signature: inspect.Signature, on_violation: Any, text: str
    ) -> Function:
        target = ForeignFunction(self._library, declaration.symbol)
        with self._lock:
            if target not in self._functions:
                self._functions.append(target)
        return Function(self, declaration, signature, on_violation, text)

    def _end(self) -> None:
        # In this order: in a signal's handler closing may be refused.
        if self._open is not None:
            self._open.close()
        self._open, self._addresses = None, {}

    def _opened(self) -> OpenSandbox:
        """Open the wall, or open it again where it does not know all functions."""
        if self._closed:
            raise SandboxClosedError(f"{self!r} is closed")
        opened = self._open
        if opened is None or len(self._addresses) != len(self._functions):
            self._end()
            opened = self._open = self._wall.open([_DISPATCH, *self._functions])
            for data, rights in list(self._granted.items()):
                with contextlib.suppress(ValueError):  # it is closed, and with that it ends
                    opened.grant(data, rights)
            self._addresses = {each: opened.address_of(each) for each in self._functions}
        return opened

    def _run(self, declaration: Declaration, arguments: dict[str, Any]) -> list[Any]:
        """Make a call; whatever goes wrong is told under the declared function's name."""
        call = Call(declaration, arguments)
        with self._lock:
            opened = self._opened()
            target = ForeignFunction(self._library, declaration.symbol)
            frame = call.frame(self._addresses[target])
            try:
                reply = opened.call(_DISPATCH, frame, timeout=self._timeout)
            except ViolationError as violation:
                raise ViolationError(declaration.symbol, violation.fault) from None
            except ForeignError as error:
                problem = _problem(declaration, call, error.code)
            else:
                try:
                    return call.results(reply)
                except MalformedReplyError as error:
                    problem = _malformed(declaration, str(error))
            self._end()  # whoever may have forged that is not called again
        raise problem


class Function:
    """A declared function: called like a Python function.

    It returns the function's results: none is None, one is itself, several are a named tuple, the
    return value first.

    A call raises:
        ViolationError (also called DomainViolation): The function misbehaved.
        ForeignError: It returned an error.
        TypeError, ValueError, OverflowError: The arguments are not as declared.
        MemoryError: The sandbox has no room for them, and starts afresh.
        OSError: The wall cannot be opened, or the library or the symbol is not there.
        SandboxClosedError: The sandbox is closed.
        SandboxBusyError: A signal's handler calls what it interrupted.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        declaration: Declaration,
        signature: inspect.Signature,
        on_violation: Any,
        text: str,
    ) -> None:
        self._sandbox = sandbox
        self._declaration = declaration
        self._on_violation = on_violation
        names = declaration.results
        self._tuple: Any = None
        if len(names) > 1:
            self._tuple = namedtuple(declaration.symbol, names, rename=True)  # type: ignore[misc] # noqa: PYI024
        self.__signature__ = signature
        self.__name__ = self.__qualname__ = declaration.symbol
        self.__doc__ = text

    def __repr__(self) -> str:
        return f"<{self.__name__}{self.__signature__} of {self._sandbox!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; see the class."""
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.__name__}{self.__signature__}: {error}") from None
        bound.apply_defaults()
        try:
            results = self._sandbox._run(self._declaration, bound.arguments)  # noqa: SLF001 - one module
        except ViolationError:
            if self._on_violation is RAISE:
                raise
            return self._on_violation
        if self._tuple is not None:
            return self._tuple._make(results)
        return results[0] if results else None


def _problem(declaration: Declaration, call: Call, code: int) -> MemoryError | ViolationError:
    """Make an exception of an error code of the dispatcher, which hostile code can forge."""
    if code != NO_MEMORY:
        return _malformed(declaration, f"error code {code} of the dispatcher")
    if call.size < _SOME_MEMORY:
        return _malformed(declaration, f"no memory for a call that needs {call.size} bytes")
    return MemoryError(
        f"{declaration.symbol}: no memory in the sandbox for the {call.size} bytes of this call; "
        "pass less, or declare less room"
    )


def _malformed(declaration: Declaration, detail: str) -> ViolationError:
    return ViolationError(declaration.symbol, Fault(ViolationKind.PROTOCOL, detail=detail))


def _limit(wall: Backend, timeout: float | None) -> float | None:
    """Return the time limit that the wall is asked for, if it can be used at all."""
    require_timeout(timeout)
    if wall.kind == "reference":
        raise UnsupportedError(f"{wall.name} is a reference for figures and runs no function")
    availability = wall.availability()
    if not availability.available:
        raise UnsupportedError(
            f"{wall.name} does not work here: {availability.reason}. "
            f"{command.as_typed(availability.remedy)}"
        )
    if timeout is None or wall.guarantees.time_limit:
        return timeout
    if wall.kind != "baseline":
        raise UnsupportedError(f"{wall.name} cannot limit a call in time; leave timeout out")
    warnings.warn(
        f"{wall.name} is no wall: neither is the time limit of {timeout} s enforced, nor anything "
        "else",
        RuntimeWarning,
        stacklevel=3,
    )
    return None
