# Made by cffi from _native.cdef.txt; its objects have no types.
from typing import Any

ffi: Any
lib: Any
