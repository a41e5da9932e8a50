#include "hardening.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the kernel numbers them on both architectures, for headers that are older. */
#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9 */
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* Linux 5.13 */
#define SYS_landlock_restrict_self 446
#endif

/* ---- in the parent ---- */

enum { LANDLOCK_VERSION_QUERY = 1 }; /* LANDLOCK_CREATE_RULESET_VERSION */

/* -1: the kernel refused to say, with errno. Built without Landlock it answers ENOSYS, started
 * without it EOPNOTSUPP. */
static int landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_QUERY);
    if (version < 0 && (errno == ENOSYS || errno == EOPNOTSUPP)) {
        return 0;
    }
    return (int)version;
}

int iso_landlock_version(void)
{
    int version = landlock_version();
    return version > 0 ? version : 0;
}

/* All that a process can read is code where its personality says so, and so the filter's refusal of
 * PROT_EXEC would be worth nothing. Returns what stands in the way, with errno, or NULL. */
static const char *check_personality(void)
{
    int own = personality(0xffffffff); /* asks */
    if (own == -1) {
        return "personality";
    }
    errno = ENOTSUP;
    return own & READ_IMPLIES_EXEC ? "the program's personality READ_IMPLIES_EXEC" : NULL;
}

enum iso_status hardening_open(const struct iso_options *options, struct hardening **result,
                               struct iso_fault *fault)
{
    *result = NULL;
    const char *what = check_personality();
    struct hardening *hardening = NULL;
    if (what == NULL) {
        what = "calloc";
        hardening = calloc(1, sizeof(*hardening));
    }
    if (hardening != NULL) {
        hardening->address_space = options->address_space;
        hardening->landlock_version = landlock_version();
        what =
            hardening->landlock_version < 0 ? "landlock_create_ruleset" : filter_build(hardening);
    }
    if (what != NULL) {
        *fault = (struct iso_fault){.system_errno = errno, .what = what, .exit_code = -1};
        hardening_close(hardening);
        return ISO_SYSTEM_ERROR;
    }
    *result = hardening;
    return ISO_OK;
}

void hardening_close(struct hardening *hardening)
{
    if (hardening != NULL) {
        int error = errno; /* of what made its owner give up */
        free(hardening->program);
        free(hardening);
        errno = error;
    }
}

const char *harden_step_name(uint32_t step)
{
    static const char *const names[] = {
        [HARDEN_DESCRIPTORS] = "closing descriptors in the child",
        [HARDEN_LANDLOCK] = "Landlock in the child",
        [HARDEN_LIMITS] = "setrlimit in the child",
        [HARDEN_FILTER] = "seccomp in the child",
    };
    return step < sizeof(names) / sizeof(names[0]) ? names[step] : NULL;
}

/* ---- descriptors ---- */

/* Before Linux 5.9. Its number goes by, too, and is closed at the end. */
static bool close_listed(int kept, int other)
{
    int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return false;
    }
    _Alignas(struct dirent64) char entries[2048];
    long length;
    while ((length = syscall(SYS_getdents64, folder, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < length;) {
            const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
            int fd = 0;
            for (const char *digit = entry->d_name; *digit >= '0' && *digit <= '9'; digit++) {
                fd = 10 * fd + (*digit - '0');
            }
            if (entry->d_name[0] != '.' && fd != kept && fd != other && fd != folder) {
                close(fd);
            }
            at += entry->d_reclen;
        }
    }
    int error = errno;
    close(folder);
    errno = error;
    return length == 0;
}

static bool close_between(int above, int below)
{
    unsigned first = (unsigned)(above + 1);
    unsigned last = below < 0 ? ~0u : (unsigned)below - 1;
    return first == (unsigned)below || syscall(SYS_close_range, first, last, 0) == 0;
}

/* All but these two, of which one may be -1. */
static bool close_others(int kept, int other)
{
    int low = kept < other ? kept : other;
    int high = kept < other ? other : kept;
    if (close_between(-1, low < 0 ? high : low) && (low < 0 || close_between(low, high)) &&
        close_between(high, -1)) {
        return true;
    }
    return errno == ENOSYS && close_listed(kept, other);
}

/* By way of a number that neither pipe is to have. */
static bool lift(int *fd)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, HARDENED_REPLY + 1);
    if (high < 0) {
        return false;
    }
    close(*fd);
    *fd = high;
    return true;
}

static bool put(int *fd, int number)
{
    if (dup3(*fd, number, O_CLOEXEC) < 0) {
        return false;
    }
    close(*fd);
    *fd = number;
    return true;
}

static bool keep_pipes(int *request_read, int *reply_write)
{
    bool requests = *request_read >= 0;
    return close_others(*request_read, *reply_write) && (!requests || lift(request_read)) &&
           lift(reply_write) && (!requests || put(request_read, HARDENED_REQUEST)) &&
           put(reply_write, HARDENED_REPLY);
}

/* ---- Landlock ---- */

/* Handles every access that this version of the ABI knows, and has no rule that grants one. See
 * "Landlock: unprivileged access control", Documentation/userspace-api/landlock.rst. */
static bool deny_files(int version)
{
    static const uint8_t accesses[] = {13, 14, 15, 15, 16}; /* of ABI 1 to 5, and on */
    size_t known = sizeof(accesses) / sizeof(accesses[0]);
    size_t row = (size_t)version < known ? (size_t)version : known;
    /* struct landlock_ruleset_attr; an older kernel takes a longer one whose end is zero. */
    const struct {
        uint64_t files, ports, scopes;
    } handled = {
        .files = (UINT64_C(1) << accesses[row - 1]) - 1,
        .ports = version >= 4 ? 3 : 0,  /* TCP bind and connect */
        .scopes = version >= 6 ? 3 : 0, /* abstract sockets and signals, out of this domain */
    };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
    if (rules < 0) {
        return false;
    }
    bool denied = syscall(SYS_landlock_restrict_self, rules, 0) == 0;
    int error = errno;
    close(rules);
    errno = error;
    return denied;
}

/* ---- limits ---- */

static bool limit(uint64_t address_space)
{
    /* Pipes have no size that RLIMIT_FSIZE would know, and those that are open stay so. */
    static const __rlimit_resource_t nothing[] = {RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NOFILE,
                                                  RLIMIT_NPROC};
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++) {
        if (setrlimit(nothing[i], &(struct rlimit){0, 0}) != 0) {
            return false;
        }
    }
    return address_space == 0 ||
           setrlimit(RLIMIT_AS, &(struct rlimit){address_space, address_space}) == 0;
}

/* ---- system calls ---- */

static bool filter(struct hardening *hardening)
{
    uint32_t pid = (uint32_t)getpid();
    for (unsigned short i = 0; i < hardening->pid_count; i++) {
        hardening->program[hardening->pids[i]].k = pid; /* in this process's copy */
    }
    struct sock_fprog program = {hardening->program_length, hardening->program};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

enum harden_step harden(struct hardening *hardening, int *request_read, int *reply_write)
{
    if (!keep_pipes(request_read, reply_write)) {
        return HARDEN_DESCRIPTORS;
    }
    if (hardening->landlock_version > 0 && !deny_files(hardening->landlock_version)) {
        return HARDEN_LANDLOCK;
    }
    if (!limit(hardening->address_space)) {
        return HARDEN_LIMITS;
    }
    return filter(hardening) ? HARDEN_DONE : HARDEN_FILTER;
}
