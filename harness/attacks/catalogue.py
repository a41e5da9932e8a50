"""All attacks: what each does, by which means, and with which arguments its code is called."""

from __future__ import annotations

import platform
import re
import signal
from typing import TYPE_CHECKING, NamedTuple

from backends import names
from harness.attacks.model import Attack, Means

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The target of an attack that is each WRPKRU and XRSTOR of the runtime, one after the other.
RUNTIME_GATES = "gates of the runtime"
#: The target that is the WRPKRU of libc.
LIBC_GATE = "gate of libc"
#: The target that is the system's time() for programs of old; 0 where there is no such.
VSYSCALL = "vsyscall"
#: The target that says how long the block is that FS base leads to; see `victim_thread_block`.
THREAD_BLOCK = "thread's block"
#: The target that says whether there are system calls of 32-bit programs: 1 or 0.
OLD_SYSTEM_CALLS = "system calls of 32-bit programs"

#: The hostile call's number: the host's first is a benign one.
_CALL = 2


class Entry(NamedTuple):
    """An attack and how it is called.

    Attributes:
        attack: What it is.
        symbol: The foreign function, in libattacks.so; or how benign calls are made.
        target: The canary, or another place, whose address it is told.
        argument: Whatever else it is told.
        own_code: It lies in libattack_gadgets.so, which has instructions that strict walls refuse.
    """

    attack: Attack
    symbol: str
    target: str = ""
    argument: int = 0
    own_code: bool = False

    @property
    def races(self) -> bool:
        """Whether what it does depends on who comes first: one try says little."""
        return self.symbol in _RACES


_RACES = frozenset(("change_length_behind_the_check", "write_to_all_descriptors", "forge_answer"))

_X86 = platform.machine() in ("x86_64", "AMD64")


def _slug(summary: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", summary.lower()).strip("-")


def _entry(  # noqa: PLR0913 - what there is to say of one
    group: str,
    row: str,
    summary: str,
    symbol: str,
    target: str = "",
    *,
    means: Means = "memory",
    argument: int = 0,
    name: str = "",
    own_code: bool = False,
    benign: bool = False,
) -> Entry:
    attack = Attack(_slug(name or row), row, group, summary, means, benign)
    return Entry(attack, symbol, target, argument, own_code)


def _benign() -> Iterator[Entry]:
    yield _entry("benign", "valid call", "bytes in, bytes out", "reverse", benign=True)
    yield _entry("benign", "16 MiB", "so much in, so much out", "large", benign=True)
    yield _entry(
        "benign",
        "good and bad calls",
        "in turn, 10,000 or what --calls says; bad: a write to NULL, or an error where recovery is "
        "not claimed",
        "alternate",
        benign=True,
    )


_WRITTEN = {
    "heap": "a block of the host's C heap",
    "python-heap": "a bytearray of the host's",
    "stack": "a frame of the host's stack",
    "global": "a variable of another library",
    "thread-local": "a variable of the thread's",
    "shared memory": "memory that the host shares with other processes",
    "secret": "a secret in memory set apart, where the wall has such",
    "page": "a page that is mapped read-only, which is a fault whatever the wall",
}
_READ = ("heap", "python-heap", "stack", "global", "thread-local", "secret")


def _memory() -> Iterator[Entry]:
    group = "memory"
    for target, what in _WRITTEN.items():
        yield _entry(group, f"write {target}", f"overwrite {what}", "write", target)
    for target in _READ:
        yield _entry(group, f"read {target}", f"read and return {_WRITTEN[target]}", "read", target)
    yield _entry(group, "write NULL", "write to address 0", "write_null")
    yield _entry(group, "read NULL", "read from address 0", "read_null")
    for row, summary, symbol in (
        ("heap overflow", "write on from an own block up to the host's", "overflow"),
        ("use after free", "change a freed block's link, so that malloc gives out the host's block",
         "use_after_free"),
        ("double free", "free a block twice, so that malloc gives out the host's", "free_twice"),
        ("corrupt allocator", "overwrite what the allocator notes around a block",
         "corrupt_allocator"),
        ("wild free", "free the host's block", "free_target"),
        ("stack smash", "write past an array on the stack", "smash_stack"),
        ("stack overflow", "recurse without end", "overflow_stack"),
        ("wild result", "return a pointer to the host's block", "wild_output"),
        ("result too long", "return 16 MiB of a block of 24 bytes", "long_output"),
        ("result within a block", "return a pointer that was never allocated", "inner_output"),
        ("result without memory", "return a length and no pointer", "null_output"),
    ):  # fmt: skip
        yield _entry(group, row, summary, symbol, "heap")
    yield _entry(group, "wild result: secret", "return a pointer to the secret", "wild_output",
                 "secret")  # fmt: skip
    yield _entry(
        group,
        "length changed behind the check",
        "a thread changes the result's length all the time, to one that reaches the host's block",
        "change_length_behind_the_check",
        "heap",
        means="system call",
    )


_RAISED = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2"),
    *("PIPE", "ALRM", "TERM", "STKFLT", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU"),
    *("XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS", "RTMIN", "RTMAX"),
)


def _control() -> Iterator[Entry]:
    group = "control flow"
    for row, summary, symbol in (
        ("abort", "abort()", "abort"),
        ("exit", "exit()", "exit"),
        ("exit at once", "_exit()", "exit_at_once"),
        ("SIGILL", "execute an instruction that there is not", "illegal_instruction"),
        ("longjmp", "to a function of the host that waits for the call", "longjmp"),
        ("endless loop", "never return", "loop"),
    ):
        yield _entry(group, row, summary, symbol)
    yield _entry(group, "sleep", "never return", "sleep")
    yield _entry(
        group, "block signals, loop", "never return, and be deaf", "block_signals_and_loop"
    )
    if _X86:
        yield _entry(group, "SIGFPE", "divide by zero", "divide")
        yield _entry(group, "SIGBUS", "use an address that is none", "bus_error")
        yield _entry(group, "SIGTRAP", "execute a breakpoint", "breakpoint")
    # Not SIGCHLD: process walls have it sent as a matter of course.
    for name in _RAISED:
        number = getattr(signal, f"SIG{name}", None)
        if number is not None:
            yield _entry(
                group,
                "raise any signal",
                f"raise(SIG{name})",
                "raise",
                argument=int(number),
                name=f"raise SIG{name}",
                means="system call",
            )
    yield _entry(group, "wild jump", "to where there is nothing", "jump", "nowhere")
    yield _entry(group, "jump into host", "to a function that changes a variable", "jump", "taken")
    yield _entry(
        group,
        "return into host",
        "by the own return address, overwritten",
        "overwrite_return_address",
        "taken",
    )
    system: Means = "system call"
    for row, summary, symbol in (
        ("fork bomb", "16 processes that stay", "fork"),
        ("process in own session", "that stays", "fork_into_own_session"),
        ("process sharing memory", "that stays", "share_memory_with_process"),
        ("thread", "that stays", "thread"),
        ("exec", "another program instead", "execute"),
    ):
        yield _entry(group, row, summary, symbol, means=system)
    yield _entry(group, "memory bomb", "256 MiB, never freed", "memory")


def _state() -> Iterator[Entry]:
    group = "machine state"
    if _X86:
        for row, symbol in (
            ("direction flag", "set_direction_flag"),
            ("alignment check flag", "set_alignment_check"),
            ("trap flag", "set_trap_flag"),
            ("nested task flag", "set_nested_task"),
            ("MXCSR", "set_mxcsr"),
            ("x87 stack", "fill_x87_stack"),
            ("x87 control word", "set_x87_control_word"),
            ("callee-saved registers", "lose_callee_saved_registers"),
            ("stack pointer", "lose_stack_pointer"),
            ("GS base", "write_gs_base"),
        ):
            yield _entry(group, row, "changed, and return", symbol)
        yield _entry(group, "FS base", "to a copy of what it led to, and return", "write_fs_base",
                     THREAD_BLOCK)  # fmt: skip
    yield _entry(group, "signal mask", "changed", "block_signals", means="system call")


def _keys() -> Iterator[Entry]:
    group = "keys and kernel"
    system: Means = "system call"
    if _X86:
        own: Means = "own WRPKRU"
        yield _entry(group, "own WRPKRU", "open all keys, and write", "wrpkru", "heap", means=own,
                     own_code=True)  # fmt: skip
        yield _entry(group, "own XRSTOR", "open all keys, and write", "xrstor", "heap", means=own,
                     own_code=True)  # fmt: skip
        yield _entry(group, "jump into the gate", "to each WRPKRU of the runtime",
                     "jump_to_wrpkru", RUNTIME_GATES, means="runtime's WRPKRU")  # fmt: skip
        yield _entry(group, "jump to libc's WRPKRU", "and write", "jump_to_wrpkru", LIBC_GATE,
                     means="libc's WRPKRU")  # fmt: skip
    for row, summary, symbol, target in (
        ("pkey_mprotect", "give memory to a key that is open, and write", "pkey_mprotect", "page"),
        ("mprotect", "make a read-only page writable, and write", "mprotect", "page"),
        ("write code", "make the host's code writable, and write it", "pkey_mprotect", "code"),
        ("mmap over", "map other memory over the host's", "map_over", "page"),
        ("mremap over", "move other memory over the host's", "mremap", "page"),
        ("munmap", "take the host's memory away", "munmap", "page"),
        ("madvise", "have the host's memory forgotten", "madvise", "private-page"),
        ("mprotect: close", "a page of the host's to everybody", "close_page", "private-page"),
        ("brk", "end the heap below the host's block", "brk", "heap"),
        ("pkey_free", "free everybody's keys", "free_protection_keys", ""),
        ("/proc/self/mem", "write to memory by its file", "write_own_memory_file", "heap"),
        ("/proc/HOST/mem", "the host's", "write_hosts_memory_file", "heap"),
        ("process_vm_writev", "write the host's memory", "process_vm_writev", "heap"),
        ("process_vm_readv", "read what the host has got since", "process_vm_readv", "late"),
        ("ptrace", "trace the host and write its memory", "ptrace", "heap"),
        ("shared mapping", "map the file that the host has mapped, and write", "map_file", ""),
        ("mapped file", "write the file that is the host's memory", "write_mapped_file", ""),
        ("signal stack", "another one for the thread", "change_signal_stack", ""),
        ("signal handler", "another one instead of the host's", "install_signal_handler", ""),
        ("io_uring", "have the kernel write to a file later", "io_uring", ""),
        ("io_uring: write", "have the kernel write the host's block", "write_by_ring", "heap"),
        ("userfaultfd", "have a page forgotten and answer its next fault", "userfaultfd",
         "private-page"),
        ("prctl", "turn the filter of system calls off, and write to a file",
         "turn_dispatch_off", ""),
    ):  # fmt: skip
        yield _entry(group, row, summary, symbol, target, means=system)
    # What lies under a key of its own is the system's to give as is all else.
    for row, summary, symbol in (
        ("pkey_mprotect", "give it to a key that is open, and write", "pkey_mprotect"),
        ("pkey_alloc", "free its key and take it, to read and write", "reuse_protection_keys"),
        ("mmap over", "map other memory over it", "map_over"),
        ("mremap over", "move other memory over it", "mremap"),
        ("munmap", "take it away", "munmap"),
        ("madvise", "have it forgotten", "madvise"),
        ("/proc/self/mem", "write it by the memory's file", "write_own_memory_file"),
        ("process_vm_readv", "read it", "process_vm_readv"),
        ("io_uring", "have the kernel's thread read it into a pipe", "read_by_ring"),
    ):
        yield _entry(group, f"{row}: secret", summary, symbol, "secret", means=system)
    if _X86:
        yield _entry(group, "code made at run time", "it opens all keys, and writes",
                     "run_made_code", "heap", means=system)  # fmt: skip
        yield _entry(group, "arch_prctl: FS", "change the base of FS", "set_fs_base",
                     THREAD_BLOCK, means=system)  # fmt: skip
        yield _entry(group, "arch_prctl", "change the base of GS", "set_gs_base", means=system)
        for row, summary, symbol, target in (
            ("forged sigreturn", "return from a signal that never came, keys open, into the host",
             "forge_signal_return", "taken"),
            ("int 0x80", "close the host's file by the 32-bit way in", "old_system_call",
             OLD_SYSTEM_CALLS),
            ("vsyscall", "have the time stored over the host's block", "vsyscall", VSYSCALL),
        ):  # fmt: skip
            yield _entry(group, row, summary, symbol, target, means=system)


def _environment() -> Iterator[Entry]:
    group = "environment"
    for row, summary, symbol in (
        ("close descriptor", "of the host's file", "close_descriptor"),
        ("close all descriptors", "of the host", "close_all_descriptors"),
        ("write descriptor", "of the host's file", "write_to_descriptor"),
        ("forge answers", "write junk to all pipes of the host", "write_to_all_descriptors"),
        ("chdir", "of the host", "chdir"),
        ("umask", "of the host", "umask"),
        ("setrlimit", "of the host", "setrlimit"),
        ("create file", "in the host's folder", "create_file"),
        ("write file", "of the user's", "write_file"),
        ("read file", "of the user's, and return it", "read_file"),
        ("unlink file", "of the user's", "unlink"),
        ("socket", "send a message", "send_by_socket"),
        ("signal host", "by kill()", "signal_host"),
    ):
        yield _entry(group, row, summary, symbol, means="system call")
    yield _entry(group, "forge whole answer", "of the right form and number, before the real one",
                 "forge_answer", means="system call", argument=_CALL)  # fmt: skip
    yield _entry(group, "setenv", "of the host", "setenv")


def entries() -> list[Entry]:
    """List the attacks for this machine's CPU, in the order in which they are shown."""
    parts = (_benign(), _memory(), _control(), _state(), _keys(), _environment())
    return [entry for part in parts for entry in part]


def find(name: str) -> Entry:
    """Find an attack by its name.

    Raises:
        LookupError: There is none.
    """
    for entry in entries():
        if entry.attack.name == name:
            return entry
    known = [entry.attack.name for entry in entries()]
    raise LookupError(names.unknown("attack", name, known, listed_by="isobench attack --list"))
