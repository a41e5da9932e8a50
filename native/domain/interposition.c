#include "interposition.h"

#include "dispositions.h"
#include "got.h"
#include "signal_stack.h"
#include "thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* ---- handlers ---- */

typedef void handler(int);

/* A bit a signal: what siginterrupt() has said, which signal() goes by from then on. */
static _Atomic uint64_t interrupting;

static uint64_t bit_of(int number)
{
    return number >= 1 && number <= 64 ? 1ULL << (number - 1) : 0;
}

static handler *program_signal(int number, handler *wanted_handler)
{
    bool interrupts = (atomic_load(&interrupting) & bit_of(number)) != 0;
    struct sigaction action = {.sa_handler = wanted_handler,
                               .sa_flags = interrupts ? 0 : SA_RESTART},
                     before;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, number);
    return disposition_set(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

/* System V's: once, and not masked. */
static handler *program_sysv_signal(int number, handler *wanted_handler)
{
    struct sigaction action = {.sa_handler = wanted_handler,
                               .sa_flags = (int)SA_RESETHAND | SA_NODEFER},
                     before;
    return disposition_set(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

static int program_sigignore(int number)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    return disposition_set(number, &action, NULL);
}

static int program_siginterrupt(int number, int interrupts)
{
    struct sigaction action;
    if (disposition_set(number, NULL, &action) != 0) {
        return -1;
    }
    action.sa_flags = (action.sa_flags & ~SA_RESTART) | (interrupts != 0 ? 0 : SA_RESTART);
    if (interrupts != 0) {
        atomic_fetch_or(&interrupting, bit_of(number));
    } else {
        atomic_fetch_and(&interrupting, ~bit_of(number));
    }
    return disposition_set(number, &action, NULL);
}

/* ---- stacks and masks ---- */

/* The stack of an attached thread stays; the program's is remembered for when it asks. */
static int program_sigaltstack(const stack_t *stack, stack_t *before)
{
    struct thread *thread = thread_self;
    if (thread == &thread_nobody || !in_own_process()) {
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

static handler *program_sigset(int number, handler *wanted_handler)
{
    struct sigaction action = {.sa_handler = wanted_handler}, before;
    bool holds = wanted_handler == SIG_HOLD;
    sigset_t one, blocked;
    sigemptyset(&one);
    if (sigaddset(&one, number) != 0 ||
        disposition_set(number, holds ? NULL : &action, &before) != 0 ||
        program_sigprocmask(holds ? SIG_BLOCK : SIG_UNBLOCK, &one, &blocked) != 0) {
        return SIG_ERR;
    }
    return sigismember(&blocked, number) == 1 ? SIG_HOLD : before.sa_handler;
}

static int program_sighold(int number)
{
    sigset_t one;
    sigemptyset(&one);
    return sigaddset(&one, number) != 0 ? -1 : program_sigprocmask(SIG_BLOCK, &one, NULL);
}

/* BSD's: masks of the first 32 signals. */
static int change_first(int how, int mask)
{
    sigset_t set, before;
    sigemptyset(&set);
    unsigned bits = (unsigned)mask, bits_before = 0;
    memcpy(&set, &bits, sizeof(bits));
    int result = program_sigprocmask(how, &set, &before);
    memcpy(&bits_before, &before, sizeof(bits_before));
    return result == 0 ? (int)bits_before : -1;
}

static int program_sigblock(int mask)
{
    return change_first(SIG_BLOCK, mask);
}

static int program_sigsetmask(int mask)
{
    return change_first(SIG_SETMASK, mask);
}

/* ---- loading ---- */

__attribute__((visibility("hidden"))) void interposition_loads(void);

/* The thread's next call into a domain has to look what came. */
void interposition_loads(void)
{
    struct thread *thread = thread_self;
    if (thread != &thread_nobody) {
        thread->may_have_loaded = true;
        thread->domain = NULL;
    }
}

/* The C library looks at who calls it, for a search path and a namespace: hence a jump, with the
 * caller's return address on the stack. */
#define LOADS_AND_JUMPS_TO(function)                                                               \
    __asm__("push %rdi\n push %rsi\n push %rdx\n"                                                  \
            "call interposition_loads\n"                                                           \
            "pop %rdx\n pop %rsi\n pop %rdi\n"                                                     \
            "jmp *" #function "@GOTPCREL(%rip)")

static __attribute__((naked)) void program_dlopen(void)
{
    LOADS_AND_JUMPS_TO(dlopen);
}

static __attribute__((naked)) void program_dlmopen(void)
{
    LOADS_AND_JUMPS_TO(dlmopen);
}

/* ---- the global offset tables ---- */

#define FUNCTION(pointer) ((void (*)(void))(pointer))

static const struct {
    const char *name;
    void (*function)(void);
} REPLACED[] = {
    {"sigaction", FUNCTION(disposition_set)},
    {"__sigaction", FUNCTION(disposition_set)},
    {"signal", FUNCTION(program_signal)},
    {"bsd_signal", FUNCTION(program_signal)},
    {"ssignal", FUNCTION(program_signal)},
    {"sysv_signal", FUNCTION(program_sysv_signal)},
    {"__sysv_signal", FUNCTION(program_sysv_signal)},
    {"sigignore", FUNCTION(program_sigignore)},
    {"siginterrupt", FUNCTION(program_siginterrupt)},
    {"sigset", FUNCTION(program_sigset)},
    {"sigaltstack", FUNCTION(program_sigaltstack)},
    {"sigprocmask", FUNCTION(program_sigprocmask)},
    {"pthread_sigmask", FUNCTION(program_pthread_sigmask)},
    {"sighold", FUNCTION(program_sighold)},
    {"sigblock", FUNCTION(program_sigblock)},
    {"sigsetmask", FUNCTION(program_sigsetmask)},
    {"dlopen", FUNCTION(program_dlopen)},
    {"dlmopen", FUNCTION(program_dlmopen)},
};
enum { REPLACED_COUNT = sizeof(REPLACED) / sizeof(REPLACED[0]) };

struct adoption {
    const void *originals[REPLACED_COUNT]; /* the C library's functions */
    ElfW(Addr) own;                        /* base of the object that this code is in */
    struct relro relro;
    unsigned long long adds; /* objects that were ever loaded */
    bool done;
};

static unsigned long long adopted_adds;

static bool replace(void *context, const char *name, void **slot, bool is_data)
{
    const struct adoption *adoption = context;
    for (size_t i = 0; i < REPLACED_COUNT; i++) {
        union {
            void (*function)(void);
            void *object;
        } ours = {.function = REPLACED[i].function};
        if (strcmp(REPLACED[i].name, name) == 0 && *slot != ours.object &&
            (!is_data || *slot == adoption->originals[i])) {
            return got_write(slot, ours.object, adoption->relro);
        }
    }
    return true;
}

static int replace_in(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    struct adoption *adoption = context;
    adoption->adds = info->dlpi_adds;
    if (info->dlpi_addr == getauxval(AT_SYSINFO_EHDR) || info->dlpi_addr == adoption->own) {
        return 0;
    }
    adoption->relro = got_relro(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            const void *dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
            adoption->done =
                adoption->done && got_walk(info->dlpi_addr, dynamic, replace, adoption);
        }
    }
    return 0;
}

bool interposition_adopt(struct iso_fault *fault)
{
    struct adoption adoption = {.done = true};
    Dl_info self;
    /* Not from within dl_iterate_phdr(), whose lock comes after the one of these. */
    if (dladdr((const void *)REPLACED, &self) == 0) {
        *fault = (struct iso_fault){.exit_code = -1, .system_errno = ENOENT, .what = "dladdr"};
        return false;
    }
    adoption.own = (ElfW(Addr))self.dli_fbase;
    for (size_t i = 0; i < REPLACED_COUNT; i++) {
        adoption.originals[i] = dlsym(RTLD_DEFAULT, REPLACED[i].name);
    }
    dl_iterate_phdr(replace_in, &adoption);
    if (!adoption.done) {
        *fault = (struct iso_fault){
            .exit_code = -1, .system_errno = errno, .what = "patching a global offset table"};
        return false;
    }
    adopted_adds = adoption.adds;
    return true;
}

static int read_adds(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(unsigned long long *)context = info->dlpi_adds;
    return 1;
}

bool interposition_is_current(void)
{
    unsigned long long adds = 0;
    dl_iterate_phdr(read_adds, &adds);
    return adds == adopted_adds;
}
