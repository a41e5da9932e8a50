#include "dispositions.h"

#include "gate.h"
#include "got.h"
#include "signals.h"
#include "thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
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

/* Has the kernel call the runtime for a signal, in the way that the program's action asks for. */
static bool take(int number, const struct sigaction *action)
{
    struct sigaction ours = *action;
    ours.sa_sigaction = (void (*)(int, siginfo_t *, void *))gate_signal_entry;
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
    if (number <= 0 || number >= SIGNAL_COUNT || number == SIGKILL || number == SIGSTOP) {
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
    if (before != NULL) {
        *before = thread->user_stack;
    }
    if (stack != NULL) {
        thread->user_stack = *stack;
    }
    return 0;
}

#define FUNCTION(pointer) ((void (*)(void))(pointer))

static const struct {
    const char *name;
    void (*function)(void);
} REPLACED[] = {
    {"sigaction", FUNCTION(program_sigaction)},     {"__sigaction", FUNCTION(program_sigaction)},
    {"signal", FUNCTION(program_signal)},           {"bsd_signal", FUNCTION(program_signal)},
    {"sigaltstack", FUNCTION(program_sigaltstack)},
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

static bool adopt_handlers(struct iso_fault *fault)
{
    for (int number = 1; number < SIGNAL_COUNT; number++) {
        struct sigaction action;
        if (number == SIGKILL || number == SIGSTOP || number == 32 || number == 33 ||
            number == deadline_number) {
            continue; /* 32 and 33 are glibc's own */
        }
        if (sigaction(number, NULL, &action) != 0) {
            return refused(fault, "sigaction");
        }
        bool ours = action.sa_sigaction == (void (*)(int, siginfo_t *, void *))gate_signal_entry;
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
    return (done || refused(fault, "patching a global offset table")) && adopt_handlers(fault);
}
