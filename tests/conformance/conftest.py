from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import sandbox_library
from backends import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.contract import Backend


@pytest.fixture
def sandbox(backend: Backend) -> Iterator[Sandbox]:
    with Sandbox(sandbox_library.build(), backend=backend) as opened:
        yield opened


@pytest.fixture
def recovering(backend: Backend, sandbox: Sandbox) -> Sandbox:
    if not backend.guarantees.recovery:
        pytest.skip("this backend does not claim recovery")
    return sandbox
