"""What a C prototype does not say of a parameter: direction and extent of the memory it points to.

Lengths and capacities count elements of the type that is pointed to; of `void`, bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: A number of elements, or a function that makes it of arguments, which it takes by their names.
Capacity = int | Callable[..., int]


class DeclarationError(ValueError):
    """A foreign function cannot be called as it is declared; the message says why."""


@dataclass(frozen=True, slots=True)
class In:
    """Memory that the function reads: passed as bytes, a sequence of numbers, or a structure.

    Attributes:
        length: The integer parameter that is told how many elements there are (it is filled in,
            and is no parameter in Python); or the number that there must be; or None: one element.
    """

    length: str | int | None = None


@dataclass(frozen=True, slots=True)
class Out:
    """Memory that the function writes, zeroed before: no parameter in Python but a result.

    Attributes:
        capacity: Room. None: as much as `length` says, or one element.
        length: The parameter that is told the capacity and filled in. If it is a pointer, the
            function leaves there how much it wrote, and the result is that long. If it is an
            integer and nothing else says what it is, it stays a parameter in Python.
        returned: The function returns how much it wrote; less than 0 is an error.
        string: What was written ends with the first zero byte, which is not part of the result.
    """

    capacity: Capacity | None = None
    length: str | None = None
    returned: bool = False
    string: bool = False


@dataclass(frozen=True, slots=True)
class InOut:
    """Memory that the function changes: a parameter in Python and a result.

    Attributes:
        length: As in `In`; a parameter that is a pointer is read afterwards as in `Out`.
        capacity: Room, of which what is passed is the beginning. None: as much as that.
        returned: As in `Out`.
        string: As in `Out`; a zero byte is appended to what is passed.
    """

    length: str | int | None = None
    capacity: Capacity | None = None
    returned: bool = False
    string: bool = False


@dataclass(frozen=True, slots=True)
class Fixed:
    """An argument that is no parameter in Python.

    Attributes:
        value: A number, or a function that makes it of arguments, which it takes by their names;
            None: a null pointer.
    """

    value: float | Callable[..., float] | None


#: A null pointer.
NULL = Fixed(None)


@dataclass(frozen=True, slots=True)
class Status:
    """The return value says whether the call succeeded. It is no result; an error is raised.

    Attributes:
        ok: The value of success, or a function that says of a value whether it is one: `bool` where
            zero is the error.
    """

    ok: int | Callable[[int], bool] = 0

    def is_ok(self, value: int) -> bool:
        """Say whether a return value is a success."""
        return bool(self.ok(value)) if callable(self.ok) else value == self.ok


Mark = In | Out | InOut | Fixed
