#include "injection.h"

#include "check.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what can fail, and how ---- */

enum failure {
    MINUS_ONE,   /* and errno */
    NOTHING,     /* 0 or NULL, and errno */
    AN_ERRNO,    /* is the result */
    MINUS_ERRNO, /* likewise */
    DONE,        /* done all the same; -1, and errno */
    LAST,        /* likewise, as the child is gone already: killed and collected */
};

/*
 * The functions that the library imports. Errors are those of their manual pages that right
 * arguments can meet: what has run out, what a signal interrupts, and EPERM where a filter of
 * system calls (seccomp) may refuse them.
 */
#define FUNCTIONS(X)                                                                               \
    X(__cxa_at_quick_exit, AN_ERRNO, ENOMEM)                                                       \
    X(__cxa_atexit, AN_ERRNO, ENOMEM)                                                              \
    X(__register_atfork, AN_ERRNO, ENOMEM)                                                         \
    X(calloc, NOTHING, ENOMEM)                                                                     \
    X(close, DONE, EINTR, EIO)                                                                     \
    X(dladdr, NOTHING, ENOENT)                                                                     \
    X(dladdr1, NOTHING, ENOENT)                                                                    \
    X(dlclose, MINUS_ONE, EINVAL)                                                                  \
    X(dlinfo, MINUS_ONE, EINVAL)                                                                   \
    X(dlmopen, NOTHING, ENOMEM)                                                                    \
    X(dlsym, NOTHING, ENOENT)                                                                      \
    X(dup3, MINUS_ONE, EMFILE, EINTR)                                                              \
    X(fclose, DONE, ENOMEM)                                                                        \
    X(fcntl, MINUS_ONE, EPERM)                                                                     \
    X(fork, MINUS_ONE, EAGAIN, ENOMEM)                                                             \
    X(fprintf, MINUS_ONE, ENOMEM)                                                                  \
    X(kill, MINUS_ONE, EPERM)                                                                      \
    X(madvise, MINUS_ONE, EINVAL, ENOMEM)                                                          \
    X(malloc, NOTHING, ENOMEM)                                                                     \
    X(memfd_create, MINUS_ONE, EMFILE, ENOMEM)                                                     \
    X(mmap, MINUS_ONE, ENOMEM, EPERM)                                                              \
    X(mprotect, MINUS_ONE, ENOMEM, EACCES)                                                         \
    X(munmap, MINUS_ONE, ENOMEM)                                                                   \
    X(on_exit, MINUS_ONE, ENOMEM)                                                                  \
    X(open, MINUS_ONE, EMFILE, EACCES)                                                             \
    X(open_memstream, NOTHING, ENOMEM)                                                             \
    X(personality, MINUS_ONE, EPERM)                                                               \
    X(pipe2, MINUS_ONE, EMFILE, ENFILE)                                                            \
    X(nanosleep, MINUS_ONE, EINTR)                                                                 \
    X(ppoll, MINUS_ONE, EINTR, EINVAL)                                                             \
    X(pread, MINUS_ONE, EIO)                                                                       \
    X(prctl, MINUS_ONE, EINVAL, EPERM)                                                             \
    X(pthread_create, AN_ERRNO, EAGAIN)                                                            \
    X(pthread_key_create, AN_ERRNO, EAGAIN)                                                        \
    X(pthread_setspecific, AN_ERRNO, ENOMEM)                                                       \
    X(pwrite, MINUS_ONE, EIO, EPERM)                                                               \
    X(read, MINUS_ONE, EINTR, EIO, SHORT)                                                          \
    X(realloc, NOTHING, ENOMEM)                                                                    \
    X(sched_setaffinity, MINUS_ONE, EPERM, EINVAL)                                                 \
    X(seccomp_attr_set, MINUS_ERRNO, ENOMEM)                                                       \
    X(seccomp_export_bpf, MINUS_ERRNO, ENOMEM, EIO)                                                \
    X(seccomp_init, NOTHING, ENOMEM)                                                               \
    X(seccomp_rule_add_array, MINUS_ERRNO, ENOMEM)                                                 \
    X(seccomp_syscall_priority, MINUS_ERRNO, ENOMEM)                                               \
    X(setpgid, MINUS_ONE, EPERM)                                                                   \
    X(setrlimit, MINUS_ONE, EPERM)                                                                 \
    X(sigaction, MINUS_ONE, EPERM)                                                                 \
    X(sigaltstack, MINUS_ONE, ENOMEM, EPERM)                                                       \
    X(sigprocmask, MINUS_ONE, EPERM)                                                               \
    X(stat, MINUS_ONE, EACCES, ENOENT)                                                             \
    X(timer_create, MINUS_ONE, EAGAIN, ENOMEM)                                                     \
    X(timer_settime, MINUS_ONE, EPERM)                                                             \
    X(waitid, LAST, EINTR, ECHILD)                                                                 \
    X(waitpid, LAST, EINTR, ECHILD)                                                                \
    X(write, MINUS_ONE, EINTR, EAGAIN, EIO, SHORT)                                                 \
    X(writev, MINUS_ONE, EINTR, EAGAIN, EIO, SHORT)

/* The system calls that it makes by syscall(). */
#define SYSTEM_CALLS(X)                                                                            \
    X(clone, MINUS_ONE, EAGAIN, EPERM)                                                             \
    X(close_range, MINUS_ONE, ENOSYS, EPERM)                                                       \
    X(getdents64, MINUS_ONE, EPERM)                                                                \
    X(landlock_create_ruleset, MINUS_ONE, ENOSYS, EMFILE)                                          \
    X(landlock_restrict_self, MINUS_ONE, EPERM, ENOMEM)                                            \
    X(pidfd_open, MINUS_ONE, EMFILE, ENOSYS)                                                       \
    X(pidfd_send_signal, MINUS_ONE, EINVAL, EPERM)                                                 \
    X(pkey_alloc, MINUS_ONE, ENOSPC, EPERM)                                                        \
    X(pkey_free, MINUS_ONE, EPERM)                                                                 \
    X(pkey_mprotect, MINUS_ONE, ENOMEM, EPERM)                                                     \
    X(rseq, MINUS_ONE, EINVAL, EPERM)                                                              \
    X(rt_sigaction, MINUS_ONE, EPERM)                                                              \
    X(rt_sigprocmask, MINUS_ONE, EPERM)                                                            \
    X(seccomp, MINUS_ONE, ENOMEM, EINVAL)                                                          \
    X(sigaltstack, MINUS_ONE, ENOMEM, EPERM)                                                       \
    X(tgkill, MINUS_ONE, EAGAIN)

/* What cannot fail, as it is called. */
static const char *const SAFE[] = {
    /* They compute. */
    "lseek", "memchr", "memcpy", "memmem", "memmove", "memset", "qsort", "sigaddset", "sigdelset",
    "sigemptyset", "sigfillset", "sigismember", "sigorset", "snprintf", "strchr", "strcmp",
    "strlen", "strncmp", "__errno_location", "__libc_current_sigrtmax", "__libc_current_sigrtmin",
    "__rseq_offset", "__rseq_size", "alarm", "sched_yield", "__stack_chk_fail", "__stack_chk_guard",
    /* They tell what is. */
    "clock_gettime", "dl_iterate_phdr", "dlerror", "getauxval", "getpid", "getppid", "gettid",
    "malloc_usable_size",
    /* They fail only for a lock, a mask, a thread or a timer that is none. */
    "free", "seccomp_release", "pthread_join", "pthread_mutex_lock", "pthread_mutex_unlock",
    "pthread_sigmask", "timer_delete",
    /* They do not return, or nobody could do better. */
    "_exit", "raise",
    /* They are called for others: the program, a library's destructors, what measures. */
    "dlopen", "memalign", "mallopt",
    /* The compiler's and the loader's own. */
    "__cxa_finalize", "__gmon_start__", "__tls_get_addr", "_ITM_deregisterTMCloneTable",
    "_ITM_registerTMCloneTable",
    /* Sorted out by number. */
    "syscall"};

static const long SAFE_SYSTEM_CALLS[] = {SYS_gettid};

enum callee {
#define X(name, ...) C_##name,
    FUNCTIONS(X)
#undef X
#define X(name, ...) C_SYS_##name,
        SYSTEM_CALLS(X)
#undef X
            CALLEES,
    FIRST_SYSTEM_CALL = C_SYS_clone,
};
_Static_assert((int)CALLEES <= (int)CALLEES_MAX, "room for counts");

static const struct {
    const char *name;
    long number; /* of the system call; -1: a function */
    enum failure failure;
    int errors[ERRORS_MAX + 1];
} callees[] = {
#define X(name, how, ...) {#name, -1, how, {__VA_ARGS__}},
    FUNCTIONS(X)
#undef X
#define X(name, how, ...) {"syscall(SYS_" #name ")", SYS_##name, how, {__VA_ARGS__}},
        SYSTEM_CALLS(X)
#undef X
};

const char *callee_name(int callee)
{
    return callees[callee].name;
}

const int *callee_errors(int callee)
{
    return callees[callee].errors;
}

/* ---- in the way ---- */

/* All have their arguments in registers, and so few of them. */
typedef long function(long, long, long, long, long, long, long);
#define PARAMETERS long a, long b, long c, long d, long e, long f, long g
#define ARGUMENTS a, b, c, d, e, f, g

static struct injection *injection;
static pid_t user;
static uintptr_t library_base;
static function *real_function[CALLEES];
static function *real_syscall;

void injection_begin(void)
{
    user = (pid_t)real_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static bool is_to_fail(int callee, uintptr_t site)
{
    enum side side = real_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0) == user ? USERS : CHILDS;
    uint32_t number = atomic_fetch_add(&injection->calls[side][callee], 1);
    if (atomic_load(&injection->logs)) {
        unsigned at = atomic_fetch_add(&injection->logged, 1);
        if (at < LOG_MAX) {
            injection->log[at] = (struct logged){.side = (uint8_t)side,
                                                 .step = (uint8_t)atomic_load(&injection->step),
                                                 .callee = (uint16_t)callee,
                                                 .number = number,
                                                 .site = site - library_base};
        }
    }
    if (callee != injection->callee || (int)side != injection->side ||
        number != injection->number) {
        return false;
    }
    atomic_fetch_add(&injection->fired, 1);
    return true;
}

/* As read(), write() or writev(), but for one byte. */
static long do_one_byte(int callee, function *call, PARAMETERS)
{
    (void)c;
    if (callee == C_writev) {
        struct iovec part = *(const struct iovec *)b;
        part.iov_len = 1;
        return call(a, (long)&part, 1, 0, 0, 0, 0);
    }
    return call(a, b, 1, d, e, f, g);
}

/* So that a child which is said to be gone is. */
static void end_the_child(int callee, PARAMETERS)
{
    (void)e, (void)f, (void)g;
    siginfo_t info;
    if (callee == C_waitpid) {
        kill((pid_t)a, SIGKILL);
        real_function[callee](a, b, c, d, 0, 0, 0);
    } else if (a != P_PGID) { /* of a group whose leader is gone nobody is there */
        real_syscall(SYS_pidfd_send_signal, b, SIGKILL, 0, 0, 0, 0);
        real_function[callee](a, b, (long)&info, WEXITED, 0, 0, 0);
    }
}

static long fail(int callee, function *call, PARAMETERS)
{
    int error = injection->error;
    if (error == SHORT) {
        return do_one_byte(callee, call, ARGUMENTS);
    }
    switch (callees[callee].failure) {
    case AN_ERRNO:
        return error;
    case MINUS_ERRNO:
        return -error;
    case NOTHING:
        errno = error;
        return 0;
    case DONE:
        call(ARGUMENTS);
        break;
    case LAST:
        if (error == ECHILD) {
            end_the_child(callee, ARGUMENTS);
        }
        break;
    case MINUS_ONE:
        break;
    }
    errno = error;
    return -1;
}

static long pass(int callee, const void *site, function *call, PARAMETERS)
{
    return is_to_fail(callee, (uintptr_t)site) ? fail(callee, call, ARGUMENTS) : call(ARGUMENTS);
}

#define X(name, ...)                                                                               \
    static long in_the_way_of_##name(PARAMETERS)                                                   \
    {                                                                                              \
        return pass(C_##name, __builtin_return_address(0), real_function[C_##name], ARGUMENTS);    \
    }
FUNCTIONS(X)
#undef X

static long in_the_way_of_syscall(PARAMETERS)
{
    for (int callee = FIRST_SYSTEM_CALL; callee < CALLEES; callee++) {
        if (callees[callee].number == a) {
            return pass(callee, __builtin_return_address(0), real_syscall, ARGUMENTS);
        }
    }
    bool safe = false;
    for (size_t i = 0; i < sizeof(SAFE_SYSTEM_CALLS) / sizeof(SAFE_SYSTEM_CALLS[0]); i++) {
        safe = safe || SAFE_SYSTEM_CALLS[i] == a;
    }
    if (!safe) {
        atomic_store(&injection->unknown, a);
    }
    return real_syscall(ARGUMENTS);
}

static const struct {
    const char *name;
    function *replacement;
    function **original;
} replaced[] = {
#define X(name, ...) {#name, in_the_way_of_##name, &real_function[C_##name]},
    FUNCTIONS(X)
#undef X
        {"syscall", in_the_way_of_syscall, &real_syscall},
};

/* ---- the global offset table ---- */

static bool is_safe(const char *name)
{
    static const char *const sanitizers[] = {"__asan_", "__ubsan_", "__sanitizer_", "__lsan_"};
    for (size_t i = 0; i < sizeof(sanitizers) / sizeof(sanitizers[0]); i++) {
        if (strncmp(name, sanitizers[i], strlen(sanitizers[i])) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(SAFE) / sizeof(SAFE[0]); i++) {
        if (strcmp(name, SAFE[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void replace(const char *name, function **slot)
{
    for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++) {
        if (strcmp(name, replaced[i].name) == 0) {
            uintptr_t page = (uintptr_t)slot & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1);
            CHECK(mprotect((void *)page, sizeof(slot) + (uintptr_t)slot - page,
                           PROT_READ | PROT_WRITE) == 0);
            *slot = replaced[i].replacement;
            return;
        }
    }
    if (!is_safe(name)) {
        check_failed(__FILE__, __LINE__,
                     "native/ calls %s: say in FUNCTIONS how it fails, or in SAFE why not", name);
    }
}

static void replace_in(const ElfW(Rela) * relocations, size_t size, const ElfW(Sym) * symbols,
                       const char *strings)
{
    for (size_t i = 0; i < size / sizeof(*relocations); i++) {
        unsigned type = (unsigned)ELF64_R_TYPE(relocations[i].r_info);
        const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(relocations[i].r_info)];
        bool names_function = type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT ||
                              type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT;
        if (names_function && symbol->st_shndx == SHN_UNDEF) {
            replace(strings + symbol->st_name,
                    (function **)(library_base + relocations[i].r_offset));
        }
    }
}

void injection_install(struct injection *shared)
{
    injection = shared;
    for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++) {
        /* NULL: this C library, or this architecture's part of native/, has no use for it. */
        *replaced[i].original = (function *)(uintptr_t)dlsym(RTLD_DEFAULT, replaced[i].name);
    }
    struct link_map *library = dlopen("libisolation.so", RTLD_NOW | RTLD_NOLOAD);
    CHECK(library != NULL && real_syscall != NULL);
    library_base = library->l_addr;
    const void *found[DT_JMPREL + 1] = {0};
    size_t sizes[DT_JMPREL + 1] = {0};
    for (const ElfW(Dyn) *entry = library->l_ld; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag <= DT_JMPREL) {
            found[entry->d_tag] = (const void *)entry->d_un.d_ptr;
            sizes[entry->d_tag] = entry->d_un.d_val;
        }
    }
    replace_in(found[DT_RELA], sizes[DT_RELASZ], found[DT_SYMTAB], found[DT_STRTAB]);
    replace_in(found[DT_JMPREL], sizes[DT_PLTRELSZ], found[DT_SYMTAB], found[DT_STRTAB]);
    dlclose(library);
}
