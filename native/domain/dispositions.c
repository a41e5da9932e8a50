#include "dispositions.h"

#include "gate.h"
#include "got.h"
#include "keys.h"
#include "signals.h"
#include "thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

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

/* As the kernel takes it. */
struct kernel_sigaction {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static int deadline_number;

int deadline_signal(void)
{
    return deadline_number;
}

static struct sigaction wanted(int number)
{
    return actions[number].versions[atomic_load(&actions[number].current)];
}

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

/* What is left of a mask that the program asks for, in a thread that uses domains. */
static sigset_t without_needed(const sigset_t *wanted_mask)
{
    sigset_t mask = *wanted_mask;
    for (int number = 1; number < SIGNAL_COUNT; number++) {
        if (is_needed_signal(number) || number == deadline_number) {
            sigdelset(&mask, number);
        }
    }
    return mask;
}

void unblock_needed_signals(void)
{
    sigset_t all, needed;
    sigfillset(&all);
    sigset_t others = without_needed(&all);
    sigemptyset(&needed);
    for (int number = 1; number < SIGNAL_COUNT; number++) {
        if (sigismember(&all, number) == 1 && sigismember(&others, number) == 0) {
            sigaddset(&needed, number);
        }
    }
    sigprocmask(SIG_UNBLOCK, &needed, NULL);
}

/* What the kernel calls. */
static void (*signal_entry(void))(int, siginfo_t *, void *)
{
    return (void (*)(int, siginfo_t *, void *))(keys_modelled ? gate_signal_entry_model
                                                              : gate_signal_entry);
}

/* Has the kernel call the runtime for a signal, in the way that the program's action asks for. */
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
        sigfillset(&ours.sa_mask);
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
    for (int number = 1; number < SIGNAL_COUNT; number++) {
        if ((is_needed_signal(number) || number == deadline_number) && sigismember(mask, number)) {
            return true;
        }
    }
    return false;
}

sigset_t interrupted_mask(const ucontext_t *context)
{
    sigset_t mask;
    sigemptyset(&mask);
    memcpy(&mask, &context->uc_sigmask, SIGNAL_COUNT / 8); /* the kernel writes no more */
    return mask;
}

static void default_action(int number, const siginfo_t *info)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(number, &standard, NULL);
    atomic_store(&actions[number].taken, false);
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
    if ((action.sa_flags & (int)SA_RESETHAND) != 0) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        want(number, &standard);
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

/* ---- what the program calls instead of the C library ---- */

static int program_sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
    if (number <= 0 || number >= SIGNAL_COUNT || number == SIGKILL || number == SIGSTOP ||
        is_the_c_librarys(number)) {
        return sigaction(number, action, before); /* which says what is wrong */
    }
    if (number == deadline_number) {
        errno = EINVAL;
        return -1;
    }
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

typedef void handler(int);

static handler *program_signal(int number, handler *wanted_handler)
{
    struct sigaction action = {.sa_handler = wanted_handler, .sa_flags = SA_RESTART}, before;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, number);
    return program_sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

/* The stack of an attached thread stays; the program's is remembered for when it asks. */
static int program_sigaltstack(const stack_t *stack, stack_t *before)
{
    struct thread *thread = thread_self;
    if (thread == &thread_nobody) {
        return sigaltstack(stack, before);
    }
    stack_t now = thread->user_stack;
    if (stack != NULL) {
        stack_t wanted_stack = *stack;
        int mode = wanted_stack.ss_flags & ~SS_AUTODISARM;
        if (mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE) {
            errno = EINVAL;
            return -1;
        }
        if (mode != SS_DISABLE && wanted_stack.ss_size < getauxval(AT_MINSIGSTKSZ)) {
            errno = ENOMEM;
            return -1;
        }
        thread->user_stack = mode == SS_DISABLE ? (stack_t){.ss_flags = SS_DISABLE} : wanted_stack;
    }
    if (before != NULL) {
        *before = now;
    }
    return 0;
}

/* Faults and time limits come through in a thread that uses domains. */
static int program_pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    if (thread_self == &thread_nobody || set == NULL || how == SIG_UNBLOCK) {
        return pthread_sigmask(how, set, before);
    }
    sigset_t mask = without_needed(set);
    return pthread_sigmask(how, &mask, before);
}

static int program_sigprocmask(int how, const sigset_t *set, sigset_t *before)
{
    int error = program_pthread_sigmask(how, set, before);
    if (error != 0) {
        errno = error;
    }
    return error == 0 ? 0 : -1;
}

#define FUNCTION(pointer) ((void (*)(void))(pointer))

static const struct {
    const char *name;
    void (*function)(void);
} REPLACED[] = {
    {"sigaction", FUNCTION(program_sigaction)},
    {"__sigaction", FUNCTION(program_sigaction)},
    {"signal", FUNCTION(program_signal)},
    {"bsd_signal", FUNCTION(program_signal)},
    {"sigaltstack", FUNCTION(program_sigaltstack)},
    {"sigprocmask", FUNCTION(program_sigprocmask)},
    {"pthread_sigmask", FUNCTION(program_pthread_sigmask)},
};

static bool replace(void *context, const char *name, void **slot)
{
    for (size_t i = 0; i < sizeof(REPLACED) / sizeof(REPLACED[0]); i++) {
        union {
            void (*function)(void);
            void *object;
        } ours = {.function = REPLACED[i].function};
        if (strcmp(REPLACED[i].name, name) == 0 && *slot != ours.object) {
            const struct relro *relro = context;
            return got_write(slot, ours.object, *relro);
        }
    }
    return true;
}

static int replace_in(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    Dl_info self;
    bool *done = context;
    if (info->dlpi_addr == getauxval(AT_SYSINFO_EHDR) ||
        (dladdr((void *)actions, &self) != 0 && info->dlpi_addr == (ElfW(Addr))self.dli_fbase)) {
        return 0;
    }
    struct relro relro = got_relro(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            const void *dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
            *done = *done && got_walk(info->dlpi_addr, dynamic, replace, &relro);
        }
    }
    return 0;
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
            return take(number, &action) || refused(fault, "sigaction");
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

bool dispositions_adopt(struct iso_fault *fault)
{
    if (deadline_number == 0 && !choose_deadline_signal(fault)) {
        return false;
    }
    bool done = true;
    dl_iterate_phdr(replace_in, &done);
    return (done || refused(fault, "patching a global offset table")) && adopt_handlers(fault) &&
           adopt_change_of_user(fault);
}
