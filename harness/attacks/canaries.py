"""What is in a host to be harmed, and how to see that it was.

A canary has 64 bytes of its own, unlike all others'. The host tells what it finds in each before
and after a call; the supervisor compares.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from backends import DataDomain, TrustedHeap
from harness.attacks import victim
from harness.attacks.catalogue import (
    LIBC_GATE,
    OLD_SYSTEM_CALLS,
    RUNTIME_GATES,
    THREAD_BLOCK,
    VSYSCALL,
)
from harness.attacks.victim import LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

#: What a canary's change is called, and which claim says that there is none.
CLAIMS = {
    "heap": "heap",
    "python-heap": "heap",
    "late": "heap",
    "page": "heap",
    "private-page": "heap",
    "stack": "stack",
    "control returned elsewhere": "stack",
    "global": "static_data",
    "thread-local": "static_data",
    "code": "static_data",
    "environment": "static_data",
    "shared memory": "shared_memory",
    "secret": "secrets",
    "flags": "machine_state",
    "MXCSR": "machine_state",
    "x87 control word": "machine_state",
    "x87 stack": "machine_state",
    "FS base": "machine_state",
    "GS base": "machine_state",
    "PKRU": "machine_state",
    "signal mask": "syscalls",
    "signal handlers": "syscalls",
    "signal stack": "syscalls",
    "signals received": "syscalls",
    "mapped file": "syscalls",
    "descriptor": "syscalls",
    "pipe": "syscalls",
    "descriptors": "syscalls",
    "descriptors left open": "syscalls",
    "folder": "syscalls",
    "file": "syscalls",
    "message": "syscalls",
    "working directory": "syscalls",
    "umask": "syscalls",
    "limits": "syscalls",
    "threads": "syscalls",
    "protection key": "syscalls",
    "memory": "recovery",
}

#: Canaries that are looked at where they lie.
_IN_MEMORY = (
    *("heap", "late", "global", "thread-local", "code"),
    *("page", "private-page", "shared memory"),
)

#: Bytes by which a host may have grown when its sandbox is closed.
_GROWTH = 128 << 20

#: Signals that are counted, for they do nothing or should not end a host that an attack is to
#: reach: SIGUSR1 is what attacks send to their host.
_COUNTED = (signal.SIGUSR1, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT)

#: The host's descriptors begin here, beyond the numbers that a wall's own can have: what an attack
#: does to one, in whatever process, it does to the host's.
_DESCRIPTORS = 100

_LIMITS = (resource.RLIMIT_STACK, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)

_PKEY_MPROTECT, _PKEY_ALLOC = 329, 330  # system calls of x86-64
# In /proc/PID/stat after the name; include/linux/sched.h.
_FLAGS, _PF_IO_WORKER = 6, 0x10
_VSYSCALL_TIME = 0xFFFFFFFFFF600400  # of x86-64


class Canaries:
    """The canaries of this process.

    Args:
        folder: An empty folder for those that are files; it becomes the working directory.
        memory: Memory set apart for secrets, if the wall has such.
        gates: Addresses of instructions that write PKRU, by the names of the catalogue.
    """

    def __init__(
        self,
        folder: Path,
        memory: DataDomain | TrustedHeap | None,
        gates: Mapping[str, list[int]],
    ) -> None:
        self._library = victim.load()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.getenv.restype = ctypes.c_char_p
        self._contents = {name: _content() for name in (*CLAIMS, "secret file") if name != "secret"}
        self._contents["code"] = ctypes.string_at(victim.address(self._library.victim_code), LENGTH)
        # The secret itself is in the memory set apart for it, and nowhere else.
        self._inverse = os.urandom(LENGTH).replace(b"\x99", b"\x98")
        self._memory = memory
        self._gates = gates
        self._python_heap = bytearray(self._contents["python-heap"])
        self._addresses = self._make_memory()
        self.folder = folder
        self._make_files()
        os.chdir(folder)
        os.putenv("ISOBENCH_CANARY", "unchanged")
        for number in _COUNTED:
            self._library.victim_count_signal(int(number))
        self._key = self._libc.syscall(_PKEY_ALLOC, 0, 0)
        self._descriptors = _descriptors()

    def _make_memory(self) -> dict[str, int]:
        library = self._library
        addresses = {
            "heap": library.victim_heap(),
            "global": library.victim_global(),
            "thread-local": library.victim_thread_local(),
            "page": library.victim_page(),
            "private-page": library.victim_page(),
            "late": library.victim_heap(),
            "shared memory": library.victim_shared_page(),
            "code": victim.address(library.victim_code),
        }
        for name, address in addresses.items():
            if name not in ("late", "code"):
                ctypes.memmove(address, self._contents[name], LENGTH)
        self._libc.mprotect(ctypes.c_void_p(addresses["page"]), mmap.PAGESIZE, mmap.PROT_READ)
        addresses["secret"] = self._place_secret()
        own = (ctypes.c_char * LENGTH).from_buffer(self._python_heap)
        addresses["python-heap"] = ctypes.addressof(own)
        addresses["taken"] = victim.address(library.victim_taken)
        addresses["nowhere"] = 4096
        addresses[VSYSCALL] = _vsyscall()
        return addresses

    def _place_secret(self) -> int:
        """Fill the memory set apart, or a block where there is none; return its address."""
        secret = self._make_secret()
        copy = (ctypes.c_char * LENGTH).from_buffer(secret)
        address: int = (
            self._library.victim_heap_page() if self._memory is None else self._memory.address
        )
        if self._memory is None:
            ctypes.memmove(address, copy, LENGTH)
        elif isinstance(self._memory, TrustedHeap):
            self._memory.write(0, secret)
        else:
            self._memory.memory[:LENGTH] = secret
        ctypes.memset(copy, 0, LENGTH)
        return address

    def _make_secret(self) -> bytearray:
        """Make the secret's content, without a copy that would stay in memory."""
        secret = bytearray(LENGTH)
        for place, byte in enumerate(self._inverse):
            secret[place] = byte ^ 0xFF
        return secret

    def _make_files(self) -> None:
        folder = self.folder
        (folder / "file").write_bytes(self._contents["file"])
        (folder / "secret").write_bytes(self._contents["secret file"])
        (folder / "written").touch()
        (folder / "mapped").write_bytes(bytes(mmap.PAGESIZE))
        self.descriptor = _high(os.open(folder / "written", os.O_RDWR))
        self.mapped = _high(os.open(folder / "mapped", os.O_RDWR))
        self._mapped = mmap.mmap(self.mapped, mmap.PAGESIZE)
        self._mapped[:LENGTH] = self._contents["mapped file"]
        # What is forked from here has the file, and would have to map it by a system call.
        self._mapped.madvise(mmap.MADV_DONTFORK)
        self._pipe = tuple(map(_high, os.pipe2(os.O_NONBLOCK)))
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket = socket.socket(fileno=_high(own.detach()))
        self._socket.bind(str(folder / "socket"))
        self._socket.settimeout(0)

    def late(self) -> None:
        """Fill the canary that comes after the sandbox was opened."""
        ctypes.memmove(self._addresses["late"], self._contents["late"], LENGTH)

    def targets(self, name: str) -> list[int]:
        """Return the addresses that an attack on this canary is told, one after the other."""
        if name in (RUNTIME_GATES, LIBC_GATE):
            return self._gates[name]
        if name == "stack":
            return [self._library.victim_stack()]
        if name == THREAD_BLOCK:
            return [self._library.victim_thread_block()]
        if name == OLD_SYSTEM_CALLS:
            return [int(self._library.victim_has_old_system_calls())]
        return [self._addresses[name] if name else 0]

    @property
    def heap(self) -> int:
        """The address of a block of the C heap."""
        return self._addresses["heap"]

    @property
    def jump_buffer(self) -> int:
        """The address of a jmp_buf of a function that waits for the call."""
        return int(self._library.victim_jump_buffer())

    def memory(self) -> dict[str, tuple[int, str]]:
        """Return the address and, in hexadecimal, the content of the canaries in memory."""
        contents = {name: self._contents[name].hex() for name in (*_IN_MEMORY, "python-heap")}
        contents["secret"] = "".join(f"{byte ^ 0xFF:02x}" for byte in self._inverse)
        return {name: (self._addresses[name], content) for name, content in contents.items()}

    def frame(self) -> dict[str, tuple[int, str]]:
        """Return the same of the canary on the stack, while `run` runs."""
        return {"stack": (self._library.victim_stack(), self._contents["stack"].hex())}

    def told(self, output: bytes) -> list[str]:
        """List the canaries whose content is in an output."""
        contents = self._contents | {"secret": bytes(self._make_secret())}
        return [name for name, content in contents.items() if content in output]

    def waiting(self, body: Callable[[], T]) -> T:
        """Call `body` while a function waits that attacks can jump to, in what is forked, too."""
        done: list[T] = []
        failed: list[BaseException] = []

        def noted() -> None:
            try:
                done.append(body())
            except BaseException as error:  # noqa: BLE001 - raised again behind what called this
                failed.append(error)

        self._library.victim_wait(ctypes.CFUNCTYPE(None)(noted))
        if failed:
            raise failed[0]
        return done[0]

    def run(self, body: Any) -> tuple[dict[str, str], dict[str, str]]:
        """Call `body` from a function whose frame has a canary; return its stack and state.

        Returns:
            What there was before, and what was left after.
        """
        report = victim.Report()
        before = {"stack": self._contents["stack"].hex(), "control returned elsewhere": "0"}
        self._library.victim_run(body, self._contents["stack"], ctypes.byref(report))
        before |= report.before.values()
        if report.jumped:  # the frame was not looked at, nor the machine's state
            return before, before | {"control returned elsewhere": "1"}
        after = {"stack": bytes(report.stack).hex(), "control returned elsewhere": "0"}
        return before, after | report.after.values()

    def observe(self, *, attacked: bool = True) -> dict[str, str]:
        """Look at everything but the stack and the machine's state.

        Args:
            attacked: There was an attack. Before, the secret is not read: that would leave a copy
                in ordinary memory, where reading it refutes nothing.
        """
        seen = {name: ctypes.string_at(self._addresses[name], LENGTH).hex() for name in _IN_MEMORY}
        seen["python-heap"] = self._python_heap.hex()
        inverse = self._inverse if not attacked else bytes(b ^ 0xFF for b in self._secret())
        seen["secret"] = inverse.hex()
        seen["mapped file"] = self._mapped[:LENGTH].hex()
        seen["environment"] = repr(self._libc.getenv(b"ISOBENCH_CANARY"))
        return seen | self._files() | self._process()

    def _secret(self) -> bytes:
        if isinstance(self._memory, TrustedHeap):
            return self._memory.read(0, LENGTH)
        if self._memory is not None:
            return bytes(self._memory.memory[:LENGTH])
        return ctypes.string_at(self._addresses["secret"], LENGTH)

    def _files(self) -> dict[str, str]:
        seen = {"folder": " ".join(sorted(os.listdir(self.folder)))}  # noqa: PTH208 - names
        try:
            seen["file"] = (self.folder / "file").read_bytes().hex()
        except OSError as error:
            seen["file"] = str(error.errno)
        try:
            status = os.fstat(self.descriptor)
            flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
            offset = os.lseek(self.descriptor, 0, os.SEEK_CUR)
            seen["descriptor"] = f"{status.st_ino} {status.st_size} {flags} {offset}"
        except OSError as error:
            seen["descriptor"] = str(error.errno)
        seen["pipe"] = _taken(lambda: os.read(self._pipe[0], 4096))
        seen["message"] = _taken(lambda: self._socket.recv(4096))
        return seen

    def _process(self) -> dict[str, str]:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            status = dict(line.split(":", 1) for line in file if ":" in line)
        stack = (ctypes.c_size_t * 3)()
        self._libc.sigaltstack(None, stack)
        return {
            "signal mask": status["SigBlk"].strip(),
            "signal handlers": victim.handlers(self._library),
            # Not where it is: domains have two, and go on with the other one after a violation.
            "signal stack": f"{stack[1] & 0xFFFFFFFF:#x} {stack[2]}",
            "signals received": str([self._library.victim_signals(int(n)) for n in _COUNTED]),
            "umask": status["Umask"].strip(),
            "threads": str(_threads()),
            "working directory": os.getcwd(),  # noqa: PTH109 - as the system says it
            "limits": str([resource.getrlimit(limit) for limit in _LIMITS]),
            # Those that were there before the sandbox, which opens and closes its own.
            "descriptors": str(sorted(self._descriptors.items() & _descriptors().items())),
            "protection key": self._own_key(),
        }

    def left_open(self) -> dict[str, str]:
        """Return what an observation has of descriptors, before the sandbox or after it."""
        return {"descriptors left open": str(sorted(_descriptors().keys() - self._descriptors))}

    def _own_key(self) -> str:
        """Tell whether the key that this process took is still its own."""
        if self._key < 0:
            return "there are none"
        page = ctypes.c_void_p(self._addresses["page"])
        refused = self._libc.syscall(_PKEY_MPROTECT, page, mmap.PAGESIZE, mmap.PROT_READ, self._key)
        self._libc.syscall(_PKEY_MPROTECT, page, mmap.PAGESIZE, mmap.PROT_READ, 0)
        return "lost" if refused else "own"


def _content() -> bytes:
    """Make a canary's content, without the byte that attacks write: one of it would not show."""
    return os.urandom(LENGTH).replace(b"\x66", b"\x67")


def _high(descriptor: int) -> int:
    """Give a descriptor a number from `_DESCRIPTORS` on."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _DESCRIPTORS)
    os.close(descriptor)
    return high


def _descriptors() -> dict[int, tuple[int, int]]:
    """List the open descriptors, with what tells one file from another."""
    found = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
        with contextlib.suppress(OSError):  # that of the listing is closed
            status = os.fstat(int(name))
            found[int(name)] = (status.st_dev, status.st_ino)
    return found


def _threads() -> int:
    """Count the threads of this process, without those that the kernel keeps for io_uring."""
    count = 0
    for stat in Path("/proc/self/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            count += not int(fields[_FLAGS]) & _PF_IO_WORKER
    return count


def _vsyscall() -> int:
    """Return where the system has time() for programs of old; 0: it has not."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        return _VSYSCALL_TIME if "[vsyscall]" in maps.read() else 0


def _taken(read: Callable[[], bytes]) -> str:
    """Say what came, if anything did."""
    try:
        return read().hex()
    except BlockingIOError:
        return ""
    except OSError as error:
        return str(error.errno)


def resident() -> int:
    """Return how much memory this process has, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * mmap.PAGESIZE


def grown(before: int, after: int) -> dict[str, str]:
    """Return what an observation has of memory after the sandbox was closed."""
    return {"memory": "as it was" if after - before < _GROWTH else f"{after - before} bytes more"}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """List the canaries that are not as they were."""
    return [name for name in before if before[name] != after.get(name)]
