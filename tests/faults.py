"""All faults of the system calls that the walls make: `make faults`.

The tests sweep a part: of each call site one call in each step, with one errno. This is all calls
with all errnos, where the CPU has no protection keys on emulated machines, too, one a kernel. The
report, `build/faults/report.tsv`, has a line a fault.

Columns: machine, wall, side (the process that uses sandboxes, or a child), step of a sandbox's life
in which the call is made, called function, number of the call among that function's, errno, calling
function, outcome, and what the answer says.

Outcomes: `error` (a documented one, once), `violation` (a child could not do its part), `recovered`
(an interrupted call went on), `harmless` (the result is right), `kept` (the system was asked to
take something back and refused), `not reached` (how often something is called depends on time); in
capitals what must not be.
"""

from __future__ import annotations

import bisect
import collections
import csv
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import c_programs
from harness import emulated

PROJECT = Path(__file__).parent.parent
FOLDER = PROJECT / "build" / "faults"
PROGRAMS = c_programs.build_folder("plain") / "tests"
KEYED = ("domain_faults", "pkru_safe_faults")
SKIPPED = 77
COLUMNS = (
    *("machine", "wall", "side", "step", "called", "number", "errno", "caller", "outcome"),
    "detail",
)


class Symbols:
    """The functions of a library, by address."""

    def __init__(self, library: Path) -> None:
        with library.open("rb") as file:
            tables = [
                section
                for section in ELFFile(file).iter_sections()
                if isinstance(section, SymbolTableSection)
            ]
            self._functions = sorted(
                (symbol["st_value"], symbol["st_value"] + symbol["st_size"], symbol.name)
                for table in tables
                for symbol in table.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_value"] != 0
            )

    def caller(self, return_address: int) -> str:
        """Name the function that a call returns to, and where in it."""
        at = return_address - 1  # a call may be a function's last instruction
        found = bisect.bisect(self._functions, (at, sys.maxsize)) - 1
        if found < 0 or at >= self._functions[found][1]:
            return f"{return_address:#x}"
        start, _, name = self._functions[found]
        return f"{name}+{return_address - start:#x}"


def sweeps(programs: tuple[str, ...]) -> list[str]:
    """Commands that run each test of these programs."""
    return [
        f"{PROGRAMS / f'test_{program}'} {name}"
        for program in programs
        for name in c_programs.names_in(PROJECT / "tests" / "native" / f"{program}.c")
    ]


def sweep_here(folder: Path) -> bool:
    """Sweep what this machine can; say whether all was as it must be."""
    environment = {**os.environ, "FAULTS_ALL": "1", "FAULTS_REPORT": str(folder / "report.tsv")}
    good = True
    for command in sweeps(("faults", *KEYED)):
        done = subprocess.run(command.split(), env=environment, check=False)
        good = good and done.returncode in {0, SKIPPED}
    return good


def sweep_emulated(series: str, folder: Path) -> bool:
    """The same on a machine that has protection keys."""
    script = "; ".join(f"{command} || failed=1" for command in sweeps(KEYED))
    variables = f"export FAULTS_ALL=1 FAULTS_REPORT={folder / 'report.tsv'}"
    with (folder / "said").open("wb") as said:
        status = emulated.run(
            ["sh", "-c", f"{variables}; failed=0; {script}; exit $failed"],
            kernel=emulated.kernel(series),
            timeout=3600,
            writable=[folder],
            stdout=said,
            stderr=said,
        )
    sys.stdout.write((folder / "said").read_text(errors="replace"))
    return status == 0


def write_report(folders: dict[str, Path]) -> collections.Counter[tuple[str, str]]:
    """Put the machines' reports together; count the outcomes of each wall."""
    symbols = Symbols(c_programs.build_folder("plain") / "libisolation.so")
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    with (FOLDER / "report.tsv").open("w", newline="") as file:
        report = csv.writer(file, delimiter="\t", lineterminator="\n")
        report.writerow(COLUMNS)
        for machine, folder in folders.items():
            with (folder / "report.tsv").open(newline="") as part:
                for row in csv.reader(part, delimiter="\t", quoting=csv.QUOTE_NONE):
                    row[6] = symbols.caller(int(row[6], 16))
                    report.writerow([machine, *row])
                    counts[f"{row[0]}, {machine}", row[7]] += 1
    return counts


def main() -> int:
    """Sweep, report, and print what came of it."""
    c_programs.build("plain")
    series = () if emulated.obstacle() else emulated.KERNELS
    folders = {"this machine": FOLDER / "here"}
    folders |= {f"kernel {each}": FOLDER / each for each in series}
    shutil.rmtree(FOLDER, ignore_errors=True)
    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "report.tsv").touch()
    for each in series:
        emulated.kernel(each)
    with ThreadPoolExecutor() as pool:
        machines = [pool.submit(sweep_emulated, each, FOLDER / each) for each in series]
        good = sweep_here(FOLDER / "here")
        good = all(machine.result() for machine in machines) and good
    counts = write_report(folders)
    for wall in sorted({wall for wall, _ in counts}):
        outcomes = ", ".join(
            f"{count} {outcome}" for (of, outcome), count in sorted(counts.items()) if of == wall
        )
        sys.stdout.write(f"{wall}: {outcomes}\n")
    if not series:
        sys.stdout.write(f"Not on emulated machines: {emulated.obstacle()}\n")
    sys.stdout.write(f"{FOLDER / 'report.tsv'}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
