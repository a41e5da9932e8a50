/* The system made to change the host: its memory, its keys, its signals, its files. The classes are
 * those of R. J. Connor, T. McDaniel, J. M. Smith, M. Schuchard: "PKU Pitfalls", USENIX Security
 * 2020, and some more. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static uint8_t *page_of(const struct attack *attack)
{
    return (uint8_t *)(uintptr_t)(attack->target & ~(uint64_t)(PAGE - 1));
}

static int done(bool success)
{
    return success ? 0 : UNABLE;
}

/* ---- memory maps ---- */

ATTACK(mprotect) /* the page of a canary that is read-only, and write it */
{
    if (mprotect(page_of(attack), PAGE, PROT_READ | PROT_WRITE) != 0) {
        return UNABLE;
    }
    mark(target_of(attack));
    return 0;
}

ATTACK(pkey_mprotect) /* to the key that is everybody's */
{
    if (syscall(SYS_pkey_mprotect, page_of(attack), PAGE, PROT_READ | PROT_WRITE, 0) != 0 &&
        syscall(SYS_pkey_mprotect, page_of(attack), PAGE, PROT_READ | PROT_WRITE, -1) != 0) {
        return UNABLE;
    }
    mark(target_of(attack));
    return 0;
}

ATTACK(map_over)
{
    return done(mmap(page_of(attack), PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
}

ATTACK(mremap) /* a page of its own over the canary's */
{
    void *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return done(own != MAP_FAILED && mremap(own, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                                            page_of(attack)) != MAP_FAILED);
}

ATTACK(munmap)
{
    return done(munmap(page_of(attack), PAGE) == 0);
}

ATTACK(madvise) /* that its page is not needed any more, so that it is all zeroes */
{
    return done(madvise(page_of(attack), PAGE, MADV_DONTNEED) == 0);
}

ATTACK(brk) /* down below the canary */
{
    return done((uint64_t)syscall(SYS_brk, page_of(attack)) ==
                (uint64_t)(uintptr_t)page_of(attack));
}

ATTACK(map_file) /* that the host has mapped, too, and write it */
{
    void *alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, (int)attack->mapped, 0);
    if (alias == MAP_FAILED) {
        return UNABLE;
    }
    mark(alias);
    return 0;
}

ATTACK(write_mapped_file) /* which is the host's memory */
{
    uint8_t marks[CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    return done(pwrite((int)attack->mapped, marks, sizeof(marks), 0) == (ssize_t)sizeof(marks));
}

ATTACK(free_protection_keys) /* of whomever */
{
    int freed = 0;
    for (int key = 1; key < 16; key++) {
        freed += syscall(SYS_pkey_free, key) == 0;
    }
    return done(freed > 0);
}

ATTACK(userfaultfd) /* and keep it: page faults of the host are its now */
{
    return done(syscall(SYS_userfaultfd, O_NONBLOCK) >= 0);
}

/* ---- memory, written by the system ---- */

static int write_memory_of(const char *process, const struct attack *attack)
{
    char path[64];
    uint8_t marks[CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    snprintf(path, sizeof(path), "/proc/%s/mem", process);
    int memory = open(path, O_RDWR);
    if (memory < 0) {
        return UNABLE;
    }
    ssize_t written = pwrite(memory, marks, sizeof(marks), (off_t)attack->target);
    close(memory);
    return done(written == (ssize_t)sizeof(marks));
}

ATTACK(write_own_memory_file)
{
    return write_memory_of("self", attack);
}

ATTACK(write_hosts_memory_file)
{
    char process[32];
    snprintf(process, sizeof(process), "%lld", (long long)attack->host);
    return write_memory_of(process, attack);
}

ATTACK(process_vm_writev)
{
    uint8_t marks[CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    struct iovec here = {marks, sizeof(marks)};
    struct iovec there = {target_of(attack), sizeof(marks)};
    ssize_t written = process_vm_writev((pid_t)attack->host, &here, 1, &there, 1, 0);
    return done(written == (ssize_t)sizeof(marks));
}

ATTACK(process_vm_readv)
{
    uint8_t *told = malloc(CANARY_LENGTH);
    if (told == NULL) {
        return 1;
    }
    struct iovec here = {told, CANARY_LENGTH};
    struct iovec there = {target_of(attack), CANARY_LENGTH};
    if (process_vm_readv((pid_t)attack->host, &here, 1, &there, 1, 0) != CANARY_LENGTH) {
        free(told);
        return UNABLE;
    }
    *output = (struct iso_bytes){told, CANARY_LENGTH};
    return 0;
}

static bool poke(const struct attack *attack)
{
    pid_t host = (pid_t)attack->host;
    if (ptrace(PTRACE_ATTACH, host, NULL, NULL) != 0 || waitpid(host, NULL, __WALL) != host) {
        return false;
    }
    bool poked = ptrace(PTRACE_POKEDATA, host, target_of(attack), 0x6666666666666666) == 0;
    ptrace(PTRACE_DETACH, host, NULL, NULL);
    return poked;
}

ATTACK(ptrace) /* the host, from a process of its own: none can trace itself */
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        _exit(poke(attack) ? 0 : 1);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return done(child > 0 && status == 0);
}

/* ---- the ways in ---- */

static int write_to_file(const struct attack *attack)
{
    uint8_t marks[CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    return done(write((int)attack->descriptor, marks, sizeof(marks)) == (ssize_t)sizeof(marks));
}

ATTACK(write_to_descriptor)
{
    return write_to_file(attack);
}

ATTACK(turn_dispatch_off) /* of system calls, and make one */
{
#ifdef PR_SET_SYSCALL_USER_DISPATCH
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
#endif
    return write_to_file(attack);
}

/* One write, of a ring of its own, by the kernel's worker or here. */
ATTACK(io_uring)
{
    struct io_uring_params parameters = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);
    if (ring < 0) {
        return UNABLE;
    }
    size_t length = parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t);
    uint8_t *queue =
        mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED,
                                      ring, (off_t)IORING_OFF_SQES);
    int code = UNABLE;
    if (queue != MAP_FAILED && entry != MAP_FAILED) {
        uint8_t marks[CANARY_LENGTH];
        memset(marks, 0x66, sizeof(marks));
        *entry = (struct io_uring_sqe){.opcode = IORING_OP_WRITE,
                                       .fd = (int)attack->descriptor,
                                       .addr = (uintptr_t)marks,
                                       .len = sizeof(marks),
                                       .off = (uint64_t)-1};
        *(uint32_t *)(void *)(queue + parameters.sq_off.array) = 0;
        uint32_t *tail = (uint32_t *)(void *)(queue + parameters.sq_off.tail);
        __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
        code = done(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
    }
    close(ring);
    return code;
}

#if defined(__x86_64__)
ATTACK(old_system_call) /* close(), by the 32-bit way in */
{
    long result = 6;
    __asm__ volatile("int $0x80"
                     : "+a"(result)
                     : "b"(attack->descriptor)
                     : "memory", "r8", "r9", "r10", "r11");
    return done(result == 0);
}

ATTACK(vsyscall) /* time(), whose result the system stores where it is told */
{
    union {
        uintptr_t address;
        long (*time)(void *);
    } entry = {.address = 0xffffffffff600400};
    return done(entry.time(target_of(attack)) != -1);
}

ATTACK(arch_prctl) /* the base of GS */
{
    enum { SET_GS = 0x1001 };
    return done(syscall(SYS_arch_prctl, SET_GS, 0x1234UL) == 0);
}

/* A return from a signal that never came, with all protection keys open, to a function of the
 * host's. As linux's struct rt_sigframe: a context, of which only what follows is not zero. */
ATTACK(forge_signal_return)
{
    enum { WORDS = 64, RSP = 20, RIP = 21, SEGMENTS = 23 }; /* in 8 bytes, of ucontext */
    static uint64_t stack[8192] __attribute__((aligned(16)));
    uint64_t frame[WORDS] = {0};
    frame[RSP] = (uintptr_t)&stack[8190 - 1];
    frame[RIP] = attack->target;
    frame[SEGMENTS] = 0x33 | (0x2bULL << 48);
    __asm__ volatile("mov %0, %%rsp\n mov %1, %%eax\n syscall\n ud2"
                     :
                     : "r"(frame), "i"(SYS_rt_sigreturn)
                     : "memory");
    __builtin_unreachable();
}
#endif

/* ---- signals ---- */

ATTACK(change_signal_stack)
{
    static uint8_t stack[65536];
    stack_t own = {.ss_sp = stack, .ss_size = sizeof(stack)};
    return done(sigaltstack(&own, NULL) == 0);
}

ATTACK(install_signal_handler)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    return done(sigaction(SIGUSR2, &ignore, NULL) == 0);
}

ATTACK(block_signals)
{
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    return done(sigprocmask(SIG_BLOCK, &some, NULL) == 0);
}

ATTACK(signal_host)
{
    return done(kill((pid_t)attack->host, SIGUSR1) == 0);
}
