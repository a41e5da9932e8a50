"""Models of domains: all that a domain does but the instruction that this CPU lacks; no walls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from backends import native, protection_keys, registry
from backends.contract import ForeignFunction

NAMES = ("mpk", "mpk-view", "mpk-nosud", "mpk-bincode-v1", "mpk-abomonation-v2")
GATE_H = Path(__file__).parents[2] / "native" / "domain" / "gate.h"
WRPKRU = b"\x0f\x01\xef"

lacks_keys = pytest.mark.skipif(
    not protection_keys.lacking(), reason="models are for x86-64 CPUs without protection keys"
)


def defined(name: str) -> int:
    found = re.search(rf"^#define {name} (\d+)$", GATE_H.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.skipif("x86_64" not in sys.implementation._multiarch, reason="gates are x86-64's")
def test_gates_switch_rights_and_their_models_do_not() -> None:
    count, stride = defined("GATE_COUNT"), defined("GATE_CODE_STRIDE")
    with (native.COMPILED / "libisolation.so").open("rb") as file:
        elf = ELFFile(file)
        (begin,) = elf.get_section_by_name(".symtab").get_symbol_by_name("gate_code_begin")
        text = elf.get_section_by_name(".text")
        offset = begin["st_value"] - text["sh_addr"]
        code = text.data()[offset : offset + 2 * count * stride]
    gates = [code[i * stride : (i + 1) * stride] for i in range(2 * count)]
    assert [gate.count(WRPKRU) for gate in gates] == [3] * count + [0] * count
    assert len({len(gate.rstrip(b"\xcc")) for gate in gates}) == 1


# Models are of a whole process, which has no walls from then on: each in one of its own.
ROUND_TRIP = """
import sys
import snappy
from backends import registry
from harness import workloads

compress, uncompress, _ = workloads.find("snappy-compress").functions()
for size in (0, 1, 65536, 3_000_000):
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    with registry.find(sys.argv[1]).open_model([compress, uncompress]) as sandbox:
        for _ in range(3):
            compressed = bytes(sandbox.call(compress, data))
            assert snappy.uncompress(compressed) == data
            assert bytes(sandbox.call(uncompress, compressed)) == data
        assert sandbox.timed_loop(compress, data, 10).last == compressed
print("done")
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )


@lacks_keys
@pytest.mark.parametrize("name", NAMES)
def test_a_model_gives_the_results_of_the_functions(name: str) -> None:
    done = run(ROUND_TRIP, name)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


MIXED = """
from backends import DataDomain, native, registry
from backends.contract import ForeignFunction

echo = ForeignFunction(native.BENIGN, "benign_echo")
with registry.find("mpk").open_model([echo]) as sandbox:
    for open_wall in (lambda: registry.find("mpk").open([echo]), lambda: DataDomain(4096)):
        try:
            open_wall()
        except OSError as error:
            print(error)
"""


@lacks_keys
def test_a_process_with_a_model_opens_no_wall() -> None:
    done = run(MIXED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("models of domains in one process") == 2


@lacks_keys
@pytest.mark.parametrize("name", NAMES)
def test_no_wall_opens_as_a_model_by_itself(name: str) -> None:
    with pytest.raises(OSError, match="ospke"):
        registry.find(name).open([ForeignFunction(native.BENIGN, "benign_echo")])
