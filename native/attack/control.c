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

static void *run_on(void *output)
{
    /* Between the caller's check of a length and its use, too. */
    volatile struct iso_bytes *bytes = output;
    for (int i = 0; bytes != NULL && i < 100000; i++) {
        bytes->length = (size_t)1 << 40;
        bytes->length = CANARY_LENGTH;
    }
    sleep(LINGER);
    return NULL;
}

static int start_thread(void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_on, argument) != 0) {
        return UNABLE;
    }
    pthread_detach(thread);
    return 0;
}

ATTACK(thread)
{
    return start_thread(NULL);
}

ATTACK(change_length_behind_the_check)
{
    *output = (struct iso_bytes){calloc(1, CANARY_LENGTH), CANARY_LENGTH};
    return output->data == NULL ? 1 : start_thread(output);
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
