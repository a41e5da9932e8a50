#include "signal_stack.h"

#include "keys.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

int signal_stack_key;

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

/* ---- what this kernel needs ---- */

static void probe_reached(int number)
{
    (void)number;
    _exit(0);
}

/* In a forked child: a fault under a domain's rights, with the signal stack under key 0. */
static _Noreturn void probe(uint8_t *stack, volatile uint8_t *target)
{
    struct sigaction action = {.sa_handler = probe_reached, .sa_flags = SA_ONSTACK};
    stack_t alternate = {.ss_sp = stack, .ss_size = SIGNAL_STACK, .ss_flags = (int)SS_AUTODISARM};
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core file of a fault that is expected */
    if (sigaction(SIGSEGV, &action, NULL) == 0 && sigaltstack(&alternate, NULL) == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        write_pkru(pkru_with(UINT32_MAX, 0, KEY_READ));
        *target = 1;
    }
    _exit(1); /* refused, or no fault came: nothing is known */
}

/*
 * Kernels differ: the older ones write a signal's frame with the rights of what they interrupted,
 * which inside a domain are none to key 0. (Changed by Linux commit 70044df250d0, 6.12.)
 */
static bool frames_need_a_key(uint8_t *stack, bool *need, struct iso_fault *fault)
{
    /* A child without a signal at its end: the caller's SIGCHLD handler is not to hear of it. */
    long child = syscall(SYS_clone, 0UL, NULL, NULL, NULL, 0UL);
    if (child < 0) {
        return refused(fault, "clone");
    }
    if (child == 0) {
        probe(stack, stack);
    }
    int status;
    pid_t ended;
    do {
        ended = waitpid((pid_t)child, &status, __WALL);
    } while (ended < 0 && errno == EINTR);
    if (ended < 0) {
        return refused(fault, "waitpid");
    }
    *need = WIFSIGNALED(status);
    if (!*need && WEXITSTATUS(status) != 0) {
        errno = EPERM;
        return refused(fault, "probing how this kernel delivers signals to domains");
    }
    return true;
}

bool signal_stacks_prepare(uint8_t *stack, struct iso_fault *fault)
{
    bool need = false;
    if (!frames_need_a_key(stack, &need, fault)) {
        return false;
    }
    int key = need ? key_allocate() : 0;
    if (key < 0) {
        return refused(fault, "pkey_alloc");
    }
    signal_stack_key = key;
    return true;
}

/* ---- installing ---- */

static bool install(stack_t stack)
{
    return syscall(SYS_sigaltstack, &stack, NULL) == 0;
}

stack_t signal_stack_half(const struct thread *thread, uintptr_t in_use)
{
    uint8_t *half = thread_stack(thread);
    if (in_use - (uintptr_t)half < SIGNAL_STACK / 2) {
        half += SIGNAL_STACK / 2;
    }
    return (stack_t){.ss_sp = half, .ss_size = SIGNAL_STACK / 2, .ss_flags = (int)SS_AUTODISARM};
}

bool signal_stack_arm(const struct thread *thread, uintptr_t in_use)
{
    return install(signal_stack_half(thread, in_use));
}

bool signal_stack_arm_rest(uintptr_t in_use)
{
    enum { ENOUGH = 512 << 10 }; /* for one signal of each number, one on top of the other */
    uintptr_t half = in_use & ~((uintptr_t)SIGNAL_STACK / 2 - 1);
    size_t size = (in_use - half) / 2 & ~(PAGE - 1);
    return size >= ENOUGH &&
           install(
               (stack_t){.ss_sp = (void *)half, .ss_size = size, .ss_flags = (int)SS_AUTODISARM});
}
