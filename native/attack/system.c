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

ATTACK(arch_prctl) /* the base of GS, or of FS */
{
    return done(kernel_call(SYS_arch_prctl, attack->argument, 0x1234) == 0);
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
