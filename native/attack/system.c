/* The system made to change the host: its memory, its signals, its files. */
#include "attack.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int done(bool success)
{
    return success ? 0 : UNABLE;
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
    if (kernel_call(SYS_ptrace, PTRACE_ATTACH, attack->host) != 0 ||
        kernel_call(SYS_wait4, attack->host, NULL, __WALL) != attack->host) {
        return false;
    }
    bool poked = kernel_call(SYS_ptrace, PTRACE_POKEDATA, attack->host, attack->target,
                             0x6666666666666666) == 0;
    kernel_call(SYS_ptrace, PTRACE_DETACH, attack->host);
    return poked;
}

/* The host, from this process; from one of its own only where this is the host: no process can
 * trace itself, and a wall that refuses new processes is not to seem to refuse to trace. */
ATTACK(ptrace)
{
    if (poke(attack)) {
        return 0;
    }
    if (kernel_call(SYS_getpid) != attack->host) {
        return UNABLE;
    }
    long child = kernel_call(SYS_clone, SIGCHLD);
    if (child == 0) {
        kernel_call(SYS_exit_group, poke(attack) ? 0 : 1);
    }
    int status = 1;
    long ended = -EINTR;
    while (child > 0 && ended == -EINTR) {
        ended = kernel_call(SYS_wait4, child, &status);
    }
    return done(ended == child && status == 0);
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

#if defined(__x86_64__)
ATTACK(old_system_call) /* close(), by the 32-bit way in: a trap, if that is not there */
{
    if (attack->target == 0) {
        return UNABLE;
    }
    long result = 6;
    __asm__ volatile("int $0x80"
                     : "+a"(result)
                     : "b"(attack->descriptor)
                     : "memory", "r8", "r9", "r10", "r11");
    return done(result == 0);
}

/* time() at a place of the system's, if that is mapped, whose result it stores where it is told. */
ATTACK(vsyscall)
{
    union {
        uintptr_t address;
        long (*time)(uint64_t result);
    } entry = {.address = attack->target};
    return entry.address == 0 ? UNABLE : done(entry.time(attack->argument) != -1);
}

ATTACK(set_gs_base)
{
    enum { SET_GS = 0x1001 }; /* asm/prctl.h of Linux */
    return done(kernel_call(SYS_arch_prctl, SET_GS, 0x1234) == 0);
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

/* Of a signal that the host has a handler for: that there is one does not change. */
ATTACK(install_signal_handler)
{
    struct { /* the kernel's, not libc's, which may be kept from foreign code */
        uint64_t handler, flags, restorer, mask;
    } action = {.handler = (uintptr_t)attack_install_signal_handler};
    return done(kernel_call(SYS_rt_sigaction, SIGUSR1, &action, NULL, sizeof(action.mask)) == 0);
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
