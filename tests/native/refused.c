/*
 * System calls that fail, or that take their time at the worst moment. This program has the walls
 * linked in, and the linker sends what they call through the functions below (--wrap).
 */
#include "sandbox.h"

#include "../../native/process/child.h"
#include "../../native/process/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- faults ---- */

static struct {
    const char *call; /* fails with `error` */
    int error;
    bool late_hold;      /* pidfd_open comes late */
    bool slow_look;      /* ppoll looks at one descriptor, then long after at the next */
    bool impatient;      /* ppoll gives up waiting for a death */
    bool always_in_time; /* ppoll finds something though the limit has passed */
    bool no_filter;      /* seccomp installs nothing and says that it has */
} fault;

static bool fails(const char *call)
{
    if (fault.call != NULL && __builtin_strcmp(fault.call, call) == 0) {
        errno = fault.error;
        return true;
    }
    return false;
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
    return fails("fork") ? -1 : __real_fork();
}

int __real_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags)
{
    return fails("pipe2") ? -1 : __real_pipe2(ends, flags);
}

int __real_fcntl(int fd, int command, int argument);
int __wrap_fcntl(int fd, int command, int argument);
int __wrap_fcntl(int fd, int command, int argument)
{
    return fails("fcntl") ? -1 : __real_fcntl(fd, command, argument);
}

static bool named_call_fails(long number)
{
    switch (number) {
    case SYS_pidfd_open:
        return fails("pidfd_open");
    case SYS_seccomp:
        return fails("seccomp");
    case 436:
        return fails("close_range");
    case 444:
        return fails("landlock_create_ruleset");
    case 446:
        return fails("landlock_restrict_self");
    default:
        return false;
    }
}

long __real_syscall(long number, long first, long second, long third, long fourth);
long __wrap_syscall(long number, long first, long second, long third, long fourth);
long __wrap_syscall(long number, long first, long second, long third, long fourth)
{
    if (number == SYS_pidfd_open && fault.late_hold) {
        sleep_ms(30);
    }
    if (number == SYS_seccomp && fault.no_filter) {
        return 0;
    }
    return named_call_fails(number) ? -1 : __real_syscall(number, first, second, third, fourth);
}

int __real_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit);
int __wrap_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit);
int __wrap_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    return fails("setrlimit") ? -1 : __real_setrlimit(resource, limit);
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
    return fails("memfd_create") ? -1 : __real_memfd_create(name, flags);
}

int __real_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
    return fails("sched_setaffinity") ? -1 : __real_sched_setaffinity(pid, size, set);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails("malloc") ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    return fails("calloc") ? NULL : __real_calloc(count, size);
}

ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
    return fails("read") ? -1 : __real_read(fd, buffer, size);
}

ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
    return fails("writev") ? -1 : __real_writev(fd, parts, count);
}

int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    /* The walls' first attempt is when they are loaded, before any test. */
    static bool loaded;
    bool early = !loaded;
    loaded = true;
    return early                     ? ENOMEM
           : fails("pthread_atfork") ? errno
                                     : __real_pthread_atfork(prepare, parent, child);
}

int __real_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                 const sigset_t *mask)
{
    if (fails("ppoll")) {
        return -1;
    }
    if (fault.always_in_time) {
        return poll(waits, count, 1000);
    }
    if (fault.impatient && count == 1) {
        sleep_ms(100);
        return 0;
    }
    int ready = 0;
    for (nfds_t i = 0; fault.slow_look && i < count; i++) {
        ready += poll(&waits[i], 1, 0);
        sleep_ms(50); /* now it ends */
    }
    return ready > 0 ? ready : __real_ppoll(waits, count, limit, mask);
}

/* ---- refusals ---- */

static void check_open_is_refused(const char *name, int error)
{
    struct box box = {.mechanism = &iso_pipe, .pinned = true, .cpu = sched_getcpu()};
    int before = open_descriptors();
    fault.call = name;
    fault.error = error;
    struct answer answer = try_open(&box);
    fault.call = NULL;
    CHECK_REFUSED(answer, error, name);
    CHECK(box.sandbox == NULL);
    CHECK_EQUAL(open_descriptors(), before);
    CHECK(has_no_children());
}

TEST(opening_tells_which_system_call_was_refused_and_leaves_nothing)
{
    check_open_is_refused("calloc", ENOMEM);
    check_open_is_refused("pipe2", ENFILE);
    check_open_is_refused("fcntl", EPERM);
    check_open_is_refused("fork", EAGAIN);
    check_open_is_refused("pidfd_open", ENOSYS);
    check_open_is_refused("sched_setaffinity", EPERM);
}

TEST(a_program_without_fork_handlers_opens_no_sandbox)
{
    check_open_is_refused("pthread_atfork", ENOMEM);
}

static void check_call_is_refused(const struct iso_mechanism *wall, const char *name, int error,
                                  bool after_violation, uint64_t timeout_ns)
{
    struct box box = {.mechanism = wall};
    open_box(&box);
    CHECK_WORKS(&box);
    int before = open_descriptors();
    for (int i = 0; i < 3; i++) {
        if (after_violation) {
            CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        }
        fault.call = name;
        fault.error = error;
        struct answer answer = call_within(&box, timeout_ns, benign_reverse, "abc", 3);
        fault.call = NULL;
        CHECK_REFUSED(answer, error, name);
        CHECK_WORKS(&box);
        CHECK_EQUAL(open_descriptors(), before);
    }
    close_box(&box);
}

TEST(a_call_that_cannot_start_its_child_tells_why_and_the_next_is_right)
{
    FOR_EACH_WALL(wall)
    {
        check_call_is_refused(wall, "pipe2", ENFILE, true, 0);
        check_call_is_refused(wall, "fork", EAGAIN, true, 0);
        check_call_is_refused(wall, "pidfd_open", EMFILE, true, 0);
    }
}

TEST(a_call_that_the_system_fails_in_the_middle_tells_why_and_the_next_is_right)
{
    FOR_EACH_WALL(wall)
    {
        check_call_is_refused(wall, "malloc", ENOMEM, false, 0);
        check_call_is_refused(wall, "read", EIO, false, 0);
        check_call_is_refused(wall, "ppoll", ENOMEM, false, 60000 * MS);
    }
}

TEST(a_request_that_cannot_be_written_is_an_error_and_the_next_is_right)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    CHECK_WORKS(&box); /* the child has inherited no fault */
    fault.call = "writev";
    fault.error = EIO;
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    fault.call = NULL;
    /* The system call is one or the other, as the request has an input or not. */
    CHECK_REFUSED(answer, EIO, "write");
    CHECK_WORKS(&box);
    close_box(&box);
}

/* ---- hardening ---- */

static void check_hardening_is_refused(const char *name, int error, const char *what)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        int before = open_descriptors();
        fault.call = name;
        fault.error = error;
        struct answer answer = try_open(&box);
        fault.call = NULL;
        CHECK_REFUSED(answer, error, what);
        CHECK(box.sandbox == NULL);
        CHECK_EQUAL(open_descriptors(), before);
        CHECK(has_no_children());
    }
}

TEST(a_sandbox_that_cannot_be_hardened_does_not_open_and_tells_why)
{
    require_hardening();
    check_hardening_is_refused("memfd_create", EMFILE, "memfd_create");
    check_hardening_is_refused("fork", EAGAIN, "fork");
    check_hardening_is_refused("landlock_create_ruleset", EPERM, "landlock_create_ruleset");
    check_hardening_is_refused("close_range", EPERM, "closing descriptors in the child");
    check_hardening_is_refused("setrlimit", EPERM, "setrlimit in the child");
    check_hardening_is_refused("seccomp", EACCES, "seccomp in the child");
    if (iso_landlock_version() > 0) {
        check_hardening_is_refused("landlock_restrict_self", E2BIG, "Landlock in the child");
    }
}

TEST(a_second_child_that_cannot_be_hardened_runs_nothing_and_the_next_is_right)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        open_box(&box);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        fault.call = "seccomp";
        fault.error = EACCES;
        struct answer answer = call(&box, benign_reverse, "abc", 3);
        fault.call = NULL;
        if (wall == &iso_pipe) {
            CHECK_REFUSED(answer, EACCES, "seccomp in the child");
        } else {
            CHECK_EXIT(answer, CHILD_EXIT_SETUP);
        }
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(nothing_is_hardened_in_a_program_whose_data_is_code)
{
    require_hardening();
    int before = personality(0xffffffff);
    CHECK(before != -1 && personality((unsigned long)before | READ_IMPLIES_EXEC) == before);
    check_hardening_is_refused(NULL, ENOTSUP, "the program's personality READ_IMPLIES_EXEC");
    CHECK(personality((unsigned long)before) != -1);
}

/* What is left open in a hardened child, as bits. */
static int look_at_descriptors(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    int found = 0;
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) {
            found |= 1 << (fd < 8 ? fd : 8);
        }
    }
    return found;
}

static void check_only_pipes_are_open(void)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = look_at_descriptors, .hardened = true};
        open_box(&box);
        int wanted = wall == &iso_pipe ? 1 << 3 | 1 << 4 : 1 << 4;
        CHECK_EQUAL(call(&box, own_function, NULL, 0).reply.foreign_code, wanted);
        close_box(&box);
    }
}

TEST(a_hardened_child_has_no_descriptor_but_its_pipes)
{
    require_hardening();
    int extra[3] = {-1, -1, -1}; /* with gaps in between */
    for (int i = 0; i < 3; i++) {
        extra[i] = fcntl(0, F_DUPFD, 20 * (i + 1));
        CHECK(extra[i] >= 0);
    }
    fault.no_filter = true;
    check_only_pipes_are_open();
    fault.call = "close_range"; /* as before Linux 5.9 */
    fault.error = ENOSYS;
    check_only_pipes_are_open();
    fault.call = NULL;
    fault.no_filter = false;
    for (int i = 0; i < 3; i++) {
        close(extra[i]);
    }
}

static char scratch[] = "/tmp/isobench-refused-XXXXXX";

static int try_what_is_behind_the_filter(const uint8_t *input, size_t length,
                                         struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    bool no_descriptor = open("/dev/null", O_RDONLY) < 0 && errno == EMFILE && dup(4) < 0 &&
                         errno == EMFILE && socket(AF_UNIX, SOCK_STREAM, 0) < 0;
    bool no_file = unlink(scratch) != 0 && errno == EACCES;
    return (no_descriptor ? 0 : 1) + (no_file ? 0 : 2);
}

TEST(limits_and_landlock_hold_where_the_filter_does_not)
{
    require_hardening();
    if (iso_landlock_version() == 0) {
        skip("this kernel has no Landlock");
    }
    int fd = mkstemp(scratch);
    CHECK(fd >= 0);
    fault.no_filter = true;
    FOR_EACH_WALL(wall)
    {
        struct box box = {
            .mechanism = wall, .own = try_what_is_behind_the_filter, .hardened = true};
        open_box(&box);
        struct answer answer = call(&box, own_function, NULL, 0);
        CHECK_OUTPUT(&box, answer, NULL, 0);
        close_box(&box);
    }
    fault.no_filter = false;
    CHECK(unlink(scratch) == 0);
    close(fd);
}

TEST(a_kernel_without_landlock_says_so_and_the_filter_remains)
{
    require_hardening();
    fault.call = "landlock_create_ruleset";
    for (int i = 0; i < 2; i++) {
        fault.error = i == 0 ? ENOSYS : EOPNOTSUPP;
        CHECK_EQUAL(iso_landlock_version(), 0);
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall, .own = look_at_descriptors, .hardened = true};
            open_box(&box);
            CHECK_WORKS(&box);
            CHECK_SIGNAL(call(&box, own_function, NULL, 0), SIGSYS);
            close_box(&box);
        }
    }
    fault.call = NULL;
}

/* ---- bad moments ---- */

TEST(a_child_that_is_through_and_collected_before_it_is_held_has_answered)
{
    signal(SIGCHLD, SIG_IGN);
    fault.late_hold = true;
    struct box box = {.mechanism = &iso_fork, .pinned = true, .cpu = sched_getcpu()};
    open_box(&box);
    for (int i = 0; i < 5; i++) {
        CHECK_WORKS(&box);
        struct answer answer = call_within(&box, 5000 * MS, benign_reverse, "abc", 3);
        CHECK_OUTPUT(&box, answer, "cba", 3);
        CHECK_EXIT(call_number(&box, hostile_exit, 3), -1);
    }
    close_box(&box);
}

TEST(an_answer_is_seen_though_its_child_ends_while_the_kernel_looks)
{
    struct box box = {.mechanism = &iso_fork};
    open_box(&box);
    fault.slow_look = true;
    for (int i = 0; i < 5; i++) {
        struct answer answer = call_within(&box, 5000 * MS, benign_reverse, "abc", 3);
        CHECK_OUTPUT(&box, answer, "cba", 3);
    }
    fault.slow_look = false;
    close_box(&box);
}

TEST(a_child_that_takes_long_to_die_is_told_by_what_ended_it)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        fault.impatient = true;
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        CHECK_EXIT(call_number(&box, hostile_exit, 9), 9);
        fault.impatient = false;
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static int answer_in_200_parts(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    struct wire_header header = {.call = 1, .length = 200};
    int fd = answer_pipe();
    ssize_t written = write(fd, &header, sizeof(header));
    for (int i = 0; i < 200 && written > 0; i++) {
        written = write(fd, "", 1);
        sleep_ms(5);
    }
    return 1;
}

TEST(a_time_limit_holds_though_the_child_always_has_something_to_say)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = answer_in_200_parts};
        open_box(&box);
        fault.always_in_time = true;
        CHECK_TIMEOUT(call_within(&box, 100 * MS, own_function, NULL, 0));
        fault.always_in_time = false;
        CHECK_WORKS(&box);
        close_box(&box);
    }
}
