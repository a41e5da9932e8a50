/* Calls that do not return, or return to where they should not. */
#include "attack.h"
#include "kernel.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void wait_for_ever(void)
{
    for (;;) {
        pause();
    }
}

static _Noreturn void loop_for_ever(void)
{
    for (volatile unsigned turn = 0;; turn = turn + 1) {
    }
}

ATTACK(abort)
{
    abort();
}

ATTACK(exit)
{
    exit(0);
}

ATTACK(exit_at_once)
{
    _exit(0);
}

ATTACK(raise)
{
    raise((int)attack->argument);
    return 0;
}

ATTACK(illegal_instruction)
{
    __builtin_trap();
}

ATTACK(loop)
{
    loop_for_ever();
}

ATTACK(sleep)
{
    wait_for_ever();
}

ATTACK(block_signals_and_loop)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    loop_for_ever();
}

ATTACK(longjmp)
{
    longjmp(*(jmp_buf *)(uintptr_t)attack->jump_buffer, 1);
}

ATTACK(jump)
{
    union {
        uintptr_t address;
        void (*code)(void);
    } target = {.address = (uintptr_t)attack->target};
    target.code();
    return 0;
}

#if defined(__x86_64__)
/* With the registers that WRPKRU takes as for opening everything, and others as is convenient. */
ATTACK(jump_to_wrpkru)
{
    if (!has_protection_keys()) {
        return UNABLE;
    }
    register uint64_t r11 __asm__("r11") = attack->target;
    register uint64_t rbx __asm__("rbx") = attack->argument;
    __asm__ volatile("xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n"
                     "mov %%rsp, %%r8\n mov %%rsp, %%r9\n mov %%rsp, %%r10\n"
                     "call *%%r11\n"
                     "movb $0x66, (%%rbx)\n"
                     : "+r"(r11), "+r"(rbx)
                     :
                     : "memory", "cc", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10");
    return 0;
}

ATTACK(divide) /* by zero */
{
    __asm__ volatile("xor %%edx, %%edx\n xor %%ecx, %%ecx\n div %%ecx"
                     :
                     :
                     : "rax", "rcx", "rdx", "cc");
    return 0;
}

ATTACK(bus_error) /* by a stack access at an address that is not canonical */
{
    __asm__ volatile("movabs $0x8000000000000000, %%rax\n"
                     "push %%rbp\n"
                     "mov %%rax, %%rbp\n"
                     "mov 0(%%rbp), %%rax\n"
                     "pop %%rbp\n"
                     :
                     :
                     : "rax", "memory");
    return 0;
}

ATTACK(breakpoint)
{
    __asm__ volatile("int3");
    return 0;
}
#endif

/* ---- processes and threads, all of which end by themselves ---- */

enum { LINGER = 30 }; /* seconds */

#if defined(__x86_64__)
/* A process that makes system calls and nothing else: it has the rights of whoever started it, and
 * libc's fork() would have it write to memory of libc's first. False: the system refuses. */
static bool start_process(long flags, bool own_session)
{
    long result = SYS_clone;
    register long no_parent __asm__("r10") = 0;
    register long no_thread __asm__("r8") = 0;
    __asm__ volatile("syscall\n"
                     "test %%rax, %%rax\n jnz 2f\n"
                     "test %%ebx, %%ebx\n jz 1f\n"
                     "mov %[setsid], %%eax\n syscall\n"
                     "1: mov %[alarm], %%eax\n mov %[seconds], %%edi\n syscall\n"
                     "mov %[pause], %%eax\n syscall\n"
                     "jmp 1b\n"
                     "2:"
                     : "+a"(result)
                     : "D"(flags | SIGCHLD), "S"(0), "d"(0), "r"(no_parent), "r"(no_thread),
                       "b"((int)own_session), [setsid] "i"(SYS_setsid), [alarm] "i"(SYS_alarm),
                       [seconds] "i"(LINGER), [pause] "i"(SYS_pause)
                     : "rcx", "r11", "memory", "cc");
    return result > 0;
}
#else
static bool start_process(long flags, bool own_session)
{
    if ((flags & CLONE_VM) != 0) {
        return false; /* it would need a stack of its own */
    }
    long child = kernel_call(SYS_clone, flags | SIGCHLD);
    if (child == 0) {
        if (own_session) {
            setsid();
        }
        sleep(LINGER);
        _exit(0);
    }
    return child > 0;
}
#endif

ATTACK(fork)
{
    enum { PROCESSES = 16 };
    for (int i = 0; i < PROCESSES; i++) {
        if (!start_process(0, false)) {
            return UNABLE;
        }
    }
    return 0;
}

/* Away from those who would end the process group; there before this one is ended. */
ATTACK(fork_into_own_session)
{
    struct timespec rest = {.tv_nsec = 50000000};
    if (!start_process(0, true)) {
        return UNABLE;
    }
    kernel_call(SYS_nanosleep, &rest, NULL);
    return 0;
}

ATTACK(share_memory_with_process) /* whose system calls nobody filters */
{
    return start_process(CLONE_VM, false) ? 0 : UNABLE;
}

enum { TURNS = 1000000 };

/* What a thread does before it sleeps: *length, which is CANARY_LENGTH, is another and itself again
 * in turn, between the caller's check of it and its use, too; until somebody changes it, whose it
 * is by then. */
struct work {
    size_t *length;
    size_t other;
    volatile int began;
};

/* What is told once it has ended could be of a thread that had not begun. False: it has not yet. */
static bool await(const struct work *work)
{
    enum { PATIENCE = 100000000 };
    for (long i = 0; i < PATIENCE && !work->began; i++) {
    }
    return work->began != 0;
}

#if defined(__x86_64__)
/* A thread that makes system calls and stores to `work`, and nothing else: libc would note it in
 * memory that is the host's. False: the system refuses, or there is no memory. */
static bool start_thread(struct work *work)
{
    enum { STACK = 4096 };
    uint8_t *stack = malloc(STACK); /* which is the thread's from now on */
    if (stack == NULL) {
        return false;
    }
    /* The first to write a page of a domain's takes a fault, with which the thread, that is deaf to
     * signals, would end. */
    work->began = 0;
    stack[STACK - 1] = 0;
    uintptr_t top = (uintptr_t)(stack + STACK) & ~(uintptr_t)15;
    long result = SYS_clone;
    register long no_parent __asm__("r10") = 0;
    register long no_thread __asm__("r8") = 0;
    register size_t *length __asm__("r12") = work->length;
    register size_t other __asm__("r13") = work->other;
    register long turns __asm__("r14") = TURNS;
    __asm__ volatile(
        "syscall\n"
        "test %%rax, %%rax\n jnz 2f\n"
        /* Of the host's signals it takes none. */
        "push $-1\n mov %%rsp, %%rsi\n mov %[set], %%edi\n xor %%edx, %%edx\n"
        "mov $8, %%r10d\n mov %[mask], %%eax\n syscall\n"
        "movl $1, (%%rbx)\n"
        "test %%r12, %%r12\n jz 1f\n"
        "mov %[own], %%edx\n"
        "0: mov %%rdx, %%rax\n lock cmpxchg %%r13, (%%r12)\n jne 1f\n"
        "mov %%r13, %%rax\n lock cmpxchg %%rdx, (%%r12)\n jne 1f\n"
        "dec %%r14\n jnz 0b\n"
        "1: push $0\n push %[seconds]\n mov %%rsp, %%rdi\n xor %%esi, %%esi\n"
        "mov %[sleep], %%eax\n syscall\n"
        "xor %%edi, %%edi\n mov %[exit], %%eax\n syscall\n ud2\n"
        "2:"
        : "+a"(result)
        : "D"(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM),
          "S"(top), "d"(0), "r"(no_parent), "r"(no_thread), "b"(&work->began), "r"(length),
          "r"(other), "r"(turns), [set] "i"(SIG_SETMASK), [mask] "i"(SYS_rt_sigprocmask),
          [own] "i"(CANARY_LENGTH), [seconds] "i"(LINGER), [sleep] "i"(SYS_nanosleep),
          [exit] "i"(SYS_exit)
        : "rcx", "r11", "memory", "cc");
    return result > 0 && await(work);
}
#else
static void *run_on(void *argument)
{
    struct work work = *(struct work *)argument;
    ((struct work *)argument)->began = 1;
    for (int i = 0; work.length != NULL && i < 2 * TURNS; i++) {
        size_t now = i % 2 == 0 ? CANARY_LENGTH : work.other;
        size_t then = i % 2 == 0 ? work.other : CANARY_LENGTH;
        if (!__atomic_compare_exchange_n(work.length, &now, then, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST)) {
            break;
        }
    }
    sleep(LINGER);
    return NULL;
}

static bool start_thread(struct work *work)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, run_on, work) == 0 && pthread_detach(thread) == 0 &&
           await(work);
}
#endif

ATTACK(thread)
{
    static struct work nothing;
    return start_thread(&nothing) ? 0 : UNABLE;
}

/* From its own block's length to one that takes in the canary, if that lies behind; or to one that
 * nothing has. */
ATTACK(change_length_behind_the_check)
{
    static struct work work; /* the thread may look at it late */
    uint8_t *own = block_below(attack, CANARY_LENGTH);
    if (own == NULL) {
        return 1;
    }
    *output = (struct iso_bytes){own, CANARY_LENGTH};
    uint8_t *end = target_of(attack) + CANARY_LENGTH;
    work = (struct work){&output->length, own < end ? (size_t)(end - own) : (size_t)1 << 40, 0};
    if (!start_thread(&work)) {
        return UNABLE;
    }
    return 0;
}

ATTACK(memory) /* 256 MiB of it, never given back */
{
    enum { BLOCK = 1 << 20, BLOCKS = 256 };
    for (int i = 0; i < BLOCKS; i++) {
        uint8_t *block = malloc(BLOCK);
        if (block == NULL) {
            break;
        }
        for (size_t page = 0; page < BLOCK; page += 4096) {
            ((volatile uint8_t *)block)[page] = 1;
        }
    }
    return 0;
}
