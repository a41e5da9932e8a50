#include "dispositions.h"

#include "gate.h"
#include "held_signals.h"
#include "interposition.h"
#include "keys.h"
#include "signal_stack.h"
#include "signals.h"
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the program's actions ---- */

/* A handler reads an action while another thread replaces it: the one read stays as it is for the
 * next three replacements. */
enum { VERSIONS = 4 };

static struct {
    struct sigaction versions[VERSIONS];
    atomic_uint current;
    atomic_bool taken; /* the kernel has the runtime's handler */
} actions[SIGNAL_COUNT];

/* glibc's own: cancelling a thread, and changing all threads' user. */
enum { CANCEL = 32, CHANGE_OF_USER = 33 };

static bool is_the_c_librarys(int number)
{
    return number == CANCEL || number == CHANGE_OF_USER;
}

/* What the kernel calls. */
static void (*signal_entry(void))(int, siginfo_t *, void *)
{
    return (void (*)(int, siginfo_t *, void *))(keys_modelled ? gate_signal_entry_model
                                                              : gate_signal_entry);
}

/* As the kernel takes it. */
struct kernel_sigaction {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static int deadline_number;
static uint64_t needed; /* the signals that are never blocked, as the kernel keeps masks */
static pid_t owner;     /* the process whose actions these are */

bool in_own_process(void)
{
    return getpid() == owner;
}

/*
 * Who changes an action changes the kernel's, too, and nobody comes in between: the lock is never
 * held by a thread that a signal's handler can interrupt, which may change actions itself.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static sigset_t lock_actions(void)
{
    sigset_t before = hold_signals();
    pthread_mutex_lock(&lock);
    return before;
}

static void unlock_actions(const sigset_t *before)
{
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

int deadline_signal(void)
{
    return deadline_number;
}

static struct sigaction wanted(int number)
{
    return actions[number].versions[atomic_load(&actions[number].current)];
}

/* The lock is held. */
static void want(int number, const struct sigaction *action)
{
    unsigned next = (atomic_load(&actions[number].current) + 1) % VERSIONS;
    actions[number].versions[next] = *action;
    atomic_store(&actions[number].current, next);
}

static bool has_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

bool handles_on_interrupted_stack(int number)
{
    struct sigaction action = wanted(number);
    return has_handler(&action) && (action.sa_flags & SA_ONSTACK) == 0;
}

sigset_t without_needed(const sigset_t *wanted_mask)
{
    sigset_t mask = *wanted_mask;
    uint64_t bits;
    memcpy(&bits, &mask, sizeof(bits));
    bits &= ~needed;
    memcpy(&mask, &bits, sizeof(bits));
    return mask;
}

void unblock_needed_signals(void)
{
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &needed, NULL, sizeof(needed));
}

/* Has the kernel call the runtime for a signal, in the way that the program's action asks for. The
 * lock is held. */
static bool take(int number, const struct sigaction *action)
{
    struct sigaction ours = *action;
    ours.sa_sigaction = signal_entry();
    ours.sa_mask = without_needed(&action->sa_mask);
    if (is_fault_signal(number) || number == deadline_number) {
        sigemptyset(&ours.sa_mask);
        ours.sa_flags = SA_NODEFER;
    }
    if (signal_stack_key > 0) {
        /* Before the handler's first WRPKRU it has no rights to its stack, and nor has the kernel
         * for another signal. dispositions_act() sets the mask that is wanted. */
        memset(&ours.sa_mask, 0xff, sizeof(ours.sa_mask)); /* the C library's own, too */
    }
    /* RESETHAND is done by who acts: what is reset is the program's action. */
    ours.sa_flags = (ours.sa_flags & ~SA_RESETHAND) | SA_SIGINFO | SA_ONSTACK;
    want(number, action);
    if (sigaction(number, &ours, NULL) != 0) {
        return false;
    }
    atomic_store(&actions[number].taken, true);
    return true;
}

/* ---- acting ---- */

static bool blocks_needed(const sigset_t *mask)
{
    uint64_t bits;
    memcpy(&bits, mask, sizeof(bits));
    return (bits & needed) != 0;
}

static sigset_t interrupted_mask(const ucontext_t *context)
{
    sigset_t mask;
    sigemptyset(&mask);
    memcpy(&mask, &context->uc_sigmask, SIGNAL_COUNT / 8); /* the kernel writes no more */
    return mask;
}

sigset_t mask_to_restore(const ucontext_t *context)
{
    sigset_t mask = interrupted_mask(context);
    return without_needed(&mask);
}

static void default_action(int number, const siginfo_t *info)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(number, &standard, NULL);
    if (in_own_process()) {
        atomic_store(&actions[number].taken, false);
    }
    bool repeats = info->si_code > 0 &&
                   (number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE);
    if (!repeats) { /* else the instruction does it again, at the right place for a debugger */
        syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
    }
}

void dispositions_act(int number, siginfo_t *info, ucontext_t *context)
{
    struct sigaction action = wanted(number);
    if (action.sa_handler == SIG_IGN && info->si_code <= 0) {
        return;
    }
    if (!has_handler(&action)) {
        default_action(number, info);
        return;
    }
    if ((action.sa_flags & (int)SA_RESETHAND) != 0 && in_own_process()) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigset_t before = lock_actions();
        want(number, &standard);
        unlock_actions(&before);
    }
    /* What the kernel would have masked for the program's own handler. */
    sigset_t mask = action.sa_mask, before, interrupted = interrupted_mask(context);
    if ((action.sa_flags & SA_NODEFER) == 0) {
        sigaddset(&mask, number);
    }
    sigorset(&mask, &mask, &interrupted);
    bool masks = is_fault_signal(number) || signal_stack_key > 0; /* or else it has */
    if (thread_self != &thread_nobody) {
        mask = without_needed(&mask);
        masks = masks || blocks_needed(&interrupted); /* sigsuspend() and the like */
    }
    if (masks) {
        sigprocmask(SIG_SETMASK, &mask, &before);
    }
    if ((action.sa_flags & SA_SIGINFO) != 0) {
        action.sa_sigaction(number, info, context);
    } else {
        action.sa_handler(number);
    }
    if (masks) {
        sigprocmask(SIG_SETMASK, &before, NULL);
    }
}

/* ---- changing actions ---- */

/* A child of vfork() shares this memory, and has the kernel's actions for itself. */
static int set_in_child(int number, const struct sigaction *action, struct sigaction *before)
{
    int result = sigaction(number, action, before);
    if (result == 0 && before != NULL && before->sa_sigaction == signal_entry()) {
        *before = wanted(number);
    }
    return result;
}

static int set(int number, const struct sigaction *action, struct sigaction *before)
{
    if (before != NULL) {
        if (atomic_load(&actions[number].taken)) {
            *before = wanted(number);
        } else if (sigaction(number, NULL, before) != 0) {
            return -1;
        }
    }
    if (action == NULL) {
        return 0;
    }
    if (is_fault_signal(number) || has_handler(action)) {
        return take(number, action) ? 0 : -1;
    }
    if (sigaction(number, action, NULL) != 0) {
        return -1;
    }
    atomic_store(&actions[number].taken, false);
    return 0;
}

int disposition_set(int number, const struct sigaction *action, struct sigaction *before)
{
    if (number <= 0 || number >= SIGNAL_COUNT || number == SIGKILL || number == SIGSTOP ||
        is_the_c_librarys(number)) {
        return sigaction(number, action, before); /* which says what is wrong */
    }
    if (number == deadline_number) {
        errno = EINVAL;
        return -1;
    }
    if (!in_own_process()) {
        return set_in_child(number, action, before);
    }
    struct sigaction copy, told; /* a pointer that leads nowhere faults here, not under the lock */
    if (action != NULL) {
        copy = *action;
    }
    sigset_t mask = lock_actions();
    int result = set(number, action != NULL ? &copy : NULL, before != NULL ? &told : NULL);
    int error = errno;
    unlock_actions(&mask);
    errno = error;
    if (result == 0 && before != NULL) {
        *before = told;
    }
    return result;
}

/* ---- taking over ---- */

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

/* The highest real-time signal that nobody handles. */
static bool choose_deadline_signal(struct iso_fault *fault)
{
    for (int number = SIGRTMAX; number >= SIGRTMIN; number--) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
            deadline_number = number;
            if (take(number, &action)) {
                return true;
            }
            deadline_number = 0;
            return refused(fault, "sigaction");
        }
    }
    errno = EBUSY;
    return refused(fault, "finding a real-time signal without a handler");
}

static void *nothing(void *argument)
{
    return argument;
}

/* glibc has a handler of its own for a change of user that is to reach all threads, unknown to
 * sigaction(), and installs it with a program's first thread: this one. */
static bool adopt_change_of_user(struct iso_fault *fault)
{
    struct kernel_sigaction theirs;
    pthread_t thread;
    if (atomic_load(&actions[CHANGE_OF_USER].taken)) {
        return true;
    }
    int error = pthread_create(&thread, NULL, nothing, NULL);
    if (error != 0) {
        errno = error;
        return refused(fault, "pthread_create");
    }
    pthread_join(thread, NULL);
    if (syscall(SYS_rt_sigaction, CHANGE_OF_USER, NULL, &theirs, sizeof(theirs.mask)) != 0) {
        return refused(fault, "rt_sigaction");
    }
    if (theirs.handler == NULL) {
        return true; /* another C library's way */
    }
    struct sigaction action = {.sa_sigaction = theirs.handler, .sa_flags = (int)theirs.flags};
    want(CHANGE_OF_USER, &action);
    theirs.handler = signal_entry();
    theirs.flags |= SA_SIGINFO | SA_ONSTACK;
    if (signal_stack_key > 0) {
        theirs.mask = UINT64_MAX;
    }
    if (syscall(SYS_rt_sigaction, CHANGE_OF_USER, &theirs, NULL, sizeof(theirs.mask)) != 0) {
        return refused(fault, "rt_sigaction");
    }
    atomic_store(&actions[CHANGE_OF_USER].taken, true);
    return true;
}

static bool adopt_handlers(struct iso_fault *fault)
{
    for (int number = 1; number < SIGNAL_COUNT; number++) {
        struct sigaction action;
        if (number == SIGKILL || number == SIGSTOP || is_the_c_librarys(number) ||
            number == deadline_number) {
            continue;
        }
        if (sigaction(number, NULL, &action) != 0) {
            return refused(fault, "sigaction");
        }
        bool ours = action.sa_sigaction == signal_entry();
        if (!ours && (is_fault_signal(number) || has_handler(&action)) && !take(number, &action)) {
            return refused(fault, "sigaction");
        }
    }
    return true;
}

static bool choose_needed_signals(struct iso_fault *fault)
{
    if (deadline_number == 0 && !choose_deadline_signal(fault)) {
        return false;
    }
    for (int number = 1; number < SIGNAL_COUNT; number++) {
        if (is_needed_signal(number) || number == deadline_number) {
            needed |= UINT64_C(1) << (number - 1);
        }
    }
    return true;
}

bool dispositions_adopt(struct iso_fault *fault)
{
    owner = getpid();
    sigset_t mask = lock_actions();
    bool done = choose_needed_signals(fault);
    unlock_actions(&mask);
    /* First the calls: a handler that is installed in between is adopted. Without the lock: the
     * dynamic loader has one, too, and constructors that it runs install handlers. */
    if (!done || !interposition_adopt(fault)) {
        return false;
    }
    mask = lock_actions();
    done = adopt_handlers(fault) && adopt_change_of_user(fault);
    unlock_actions(&mask);
    return done;
}

void dispositions_after_fork(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    owner = getpid();
}
