/*
 * The system calls of a hardened child: a list of those that the worker's own loop and a function
 * that computes need. All others, and these with other arguments, raise SIGSYS.
 */
#include "hardening.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Stands for the child's pid, which the child puts in its place: too large for one, and no other
 * number in the program. */
#define PID_PLACE 0x5eccf117u

enum iso_hardening iso_hardening_here(void)
{
    uint32_t action = SECCOMP_RET_TRAP;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0
               ? ISO_HARDENING_HERE
               : ISO_HARDENING_NO_FILTERS;
}

/* Answers of libseccomp are 0 or an errno, negated. */
static bool add(scmp_filter_ctx *filter, uint32_t action, int call, unsigned count,
                const struct scmp_arg_cmp *conditions)
{
    int result = seccomp_rule_add_array(filter, action, call, count, conditions);
    errno = -result;
    return result == 0;
}

static bool allow(scmp_filter_ctx *filter, int call, unsigned count,
                  const struct scmp_arg_cmp *conditions)
{
    return add(filter, SCMP_ACT_ALLOW, call, count, conditions);
}

/* ---- calls that only concern the process itself ---- */

static bool allow_harmless(scmp_filter_ctx *filter)
{
    static const int calls[] = {
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(sched_yield),
        /* signals of its own */
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(sigaltstack),
        /* memory that it has; more of it is below */
        SCMP_SYS(brk),
        SCMP_SYS(munmap),
        /* what it may know; qsort() of glibc before 2.37 asks for the size of memory */
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(getppid),
        SCMP_SYS(getrandom),
        SCMP_SYS(sysinfo),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(clock_getres),
        SCMP_SYS(gettimeofday),
#ifdef SYS_time
        SCMP_SYS(time),
#endif
    };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (!allow(filter, calls[i], 0, NULL)) {
            return false;
        }
    }
    return true;
}

/* ---- descriptors ---- */

/* The standard streams are closed. That is what a library that prints a warning hears of it, and an
 * abort() that says why is still an abort(). */
static bool refuse_streams(scmp_filter_ctx *filter)
{
    static const int calls[] = {SCMP_SYS(read),       SCMP_SYS(write), SCMP_SYS(writev),
                                SCMP_SYS(newfstatat), SCMP_SYS(fstat), SCMP_SYS(ioctl)};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (scmp_datum_t fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
            struct scmp_arg_cmp stream = SCMP_A0(SCMP_CMP_EQ, fd);
            if (!add(filter, SCMP_ACT_ERRNO(EBADF), calls[i], 1, &stream)) {
                return false;
            }
        }
    }
    return true;
}

static bool allow_pipes(scmp_filter_ctx *filter)
{
    struct scmp_arg_cmp request = SCMP_A0(SCMP_CMP_EQ, HARDENED_REQUEST);
    struct scmp_arg_cmp reply = SCMP_A0(SCMP_CMP_EQ, HARDENED_REPLY);
    return allow(filter, SCMP_SYS(read), 1, &request) &&
           allow(filter, SCMP_SYS(write), 1, &reply) && allow(filter, SCMP_SYS(writev), 1, &reply);
}

/* ---- memory ---- */

/* Private, of no descriptor, and not to be executed: what is written does not become code. */
static bool allow_memory(scmp_filter_ctx *filter)
{
    struct scmp_arg_cmp no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    struct scmp_arg_cmp fresh[] = {no_code, SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_TYPE,
                                                    MAP_ANONYMOUS | MAP_PRIVATE)};
    /* malloc() of glibc has as many arenas as the process has CPUs. */
    struct scmp_arg_cmp itself = SCMP_A0(SCMP_CMP_EQ, 0);
    return allow(filter, SCMP_SYS(mmap), 2, fresh) &&
           allow(filter, SCMP_SYS(mprotect), 1, &no_code) &&
           allow(filter, SCMP_SYS(sched_getaffinity), 1, &itself);
}

/* A mapping that grows shows more of its file, and more of one that is shared can be written: what
 * the program never mapped. realloc() of glibc, told that there is no room, copies. */
static bool refuse_growth(scmp_filter_ctx *filter)
{
    return add(filter, SCMP_ACT_ERRNO(ENOMEM), SCMP_SYS(mremap), 0, NULL);
}

/* Not what takes pages out of service, which a privileged process may. */
static bool allow_advice(scmp_filter_ctx *filter)
{
    static const scmp_datum_t advice[] = {MADV_NORMAL,   MADV_RANDOM,     MADV_SEQUENTIAL,
                                          MADV_WILLNEED, MADV_DONTNEED,   MADV_FREE,
                                          MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP};
    for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++) {
        struct scmp_arg_cmp this = SCMP_A2(SCMP_CMP_EQ, advice[i]);
        if (!allow(filter, SCMP_SYS(madvise), 1, &this)) {
            return false;
        }
    }
    return true;
}

/* ---- locks and signals ---- */

/* Private ones: of memory that the program shares with others they would reach those. */
static bool allow_locks(scmp_filter_ctx *filter)
{
    static const scmp_datum_t operations[] = {FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET,
                                              FUTEX_WAKE_BITSET};
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        struct scmp_arg_cmp operation =
            SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX & ~(uint32_t)FUTEX_CLOCK_REALTIME,
                    operations[i] | FUTEX_PRIVATE_FLAG);
        if (!allow(filter, SCMP_SYS(futex), 1, &operation)) {
            return false;
        }
    }
    return true;
}

static bool allow_signals(scmp_filter_ctx *filter)
{
    static const int calls[] = {SCMP_SYS(kill), SCMP_SYS(tkill), SCMP_SYS(tgkill)};
    struct scmp_arg_cmp itself = SCMP_A0(SCMP_CMP_EQ, PID_PLACE);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (!allow(filter, calls[i], 1, &itself)) {
            return false;
        }
    }
    /* Not of SIGSYS, which tells of what is refused, and of those above, one of which tells that
     * the parent has died. */
    struct scmp_arg_cmp below = SCMP_A0(SCMP_CMP_LT, SIGSYS);
    return allow(filter, SCMP_SYS(rt_sigaction), 1, &below);
}

/* ---- the program ---- */

static bool add_rules(scmp_filter_ctx *filter)
{
    /* Any other way in than the architecture's own: on x86-64, those of i386 and x32. */
    int result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    errno = -result;
    if (result != 0) {
        return false;
    }
    /* Those of every call come first. */
    seccomp_syscall_priority(filter, SCMP_SYS(read), 255);
    seccomp_syscall_priority(filter, SCMP_SYS(writev), 255);
    seccomp_syscall_priority(filter, SCMP_SYS(write), 255);
    return allow_pipes(filter) && refuse_streams(filter) && allow_harmless(filter) &&
           allow_memory(filter) && refuse_growth(filter) && allow_advice(filter) &&
           allow_locks(filter) && allow_signals(filter);
}

static bool find_pids(struct hardening *hardening)
{
    for (unsigned short i = 0; i < hardening->program_length; i++) {
        const struct sock_filter *instruction = &hardening->program[i];
        if (instruction->k != PID_PLACE) {
            continue;
        }
        if (instruction->code != (BPF_JMP | BPF_JEQ | BPF_K) ||
            hardening->pid_count == HARDENED_PIDS_MAX) {
            errno = ENOTSUP;
            return false;
        }
        hardening->pids[hardening->pid_count++] = i;
    }
    errno = ENOTSUP;
    return hardening->pid_count != 0;
}

/* libseccomp before 2.6 writes programs to descriptors only. */
static const char *take_program(struct hardening *hardening, scmp_filter_ctx *filter, int file)
{
    int result = seccomp_export_bpf(filter, file);
    if (result != 0) {
        errno = -result;
        return "seccomp_export_bpf";
    }
    off_t length = lseek(file, 0, SEEK_END);
    size_t size = sizeof(*hardening->program);
    if (length <= 0 || (size_t)length > BPF_MAXINSNS * size || (size_t)length % size != 0) {
        errno = length < 0 ? errno : ENOTSUP;
        return "seccomp_export_bpf";
    }
    hardening->program = malloc((size_t)length);
    if (hardening->program == NULL) {
        return "malloc";
    }
    hardening->program_length = (unsigned short)((size_t)length / size);
    if (pread(file, hardening->program, (size_t)length, 0) != length) {
        return "pread";
    }
    return find_pids(hardening) ? NULL : "seccomp_export_bpf";
}

const char *filter_build(struct hardening *hardening)
{
    scmp_filter_ctx *filter = seccomp_init(SCMP_ACT_TRAP);
    if (filter == NULL) {
        errno = ENOMEM;
        return "seccomp_init";
    }
    const char *what = "seccomp_rule_add";
    int file = -1;
    if (add_rules(filter)) {
        file = memfd_create("isobench-filter", MFD_CLOEXEC);
        what = file < 0 ? "memfd_create" : take_program(hardening, filter, file);
    }
    int error = errno;
    if (file >= 0) {
        close(file);
    }
    seccomp_release(filter);
    errno = error;
    return what;
}
