from __future__ import annotations

import pytest

from backends import registry
from backends.contract import ForeignFunction, Sandbox
from harness import workloads


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda w: w.name)
@pytest.mark.parametrize("size", [1, 4096])
def test_a_right_result_passes(workload: workloads.Workload, size: int) -> None:
    data = workload.input("text", size)
    with registry.find("none").open(workload.functions()) as sandbox:
        workload.checked_result(sandbox, data)


class Lying(Sandbox):
    """Changes a byte of what the foreign function returned."""

    def __init__(self, sandbox: Sandbox, symbol: str) -> None:
        self.sandbox, self.symbol = sandbox, symbol

    def call(self, function: ForeignFunction, data=b"", *, timeout=None) -> bytes:
        result = self.sandbox.call(function, data)
        if function.symbol != self.symbol:
            return result
        return bytes([result[0] ^ 1]) + result[1:] if result else b"x"

    def close(self) -> None:
        self.sandbox.close()


@pytest.mark.parametrize(
    ("name", "lies_in"),
    [
        ("switch", "foreign_empty"),
        ("snappy-compress", "foreign_compress"),
        ("snappy-compress", "foreign_uncompress"),
        ("snappy-uncompress", "foreign_uncompress"),
    ],
)
def test_a_wrong_result_is_an_error_and_not_a_number(name: str, lies_in: str) -> None:
    workload = workloads.find(name)
    data = workload.input("random", 1000)
    with (
        Lying(registry.find("none").open(workload.functions()), lies_in) as sandbox,
        pytest.raises(Exception, match=r"wrong result|error code"),
    ):
        workload.checked_result(sandbox, data)


def test_an_unknown_workload_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="switch, snappy-compress"):
        workloads.find("gzip")
