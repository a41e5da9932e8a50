"""What the time of day does to time limits: nothing. The emulated machine's clock may be set."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from backends import registry
from backends.contract import ViolationError, ViolationKind

if TYPE_CHECKING:
    from parts import Functions

DAY = 86400
# Nowhere else is the clock ours to set.
pytestmark = pytest.mark.skipif("ISOBENCH_EMULATED" not in os.environ, reason="not emulated")


def jump(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


@pytest.mark.parametrize("wall", ["mpk", "sandcrust-pipe", "sandcrust-fork"])
@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_a_time_limit_is_kept_while_the_clock_jumps(
    wall: str, seconds: float, functions: Functions
) -> None:
    loop, reverse = functions.hostile("loop"), functions.benign("reverse")
    with registry.find(wall).open([loop, reverse]) as sandbox:
        assert sandbox.call(reverse, b"abc", timeout=5) == b"cba"
        timer = threading.Timer(0.1, jump, [seconds])
        timer.start()
        begin = time.monotonic()
        try:
            with pytest.raises(ViolationError) as raised:
                sandbox.call(loop, timeout=0.5)
        finally:
            timer.join()
            jump(-seconds)
        assert raised.value.fault.kind is ViolationKind.TIMEOUT
        assert 0.5 <= time.monotonic() - begin < 5
        assert sandbox.call(reverse, b"abc", timeout=5) == b"cba"
