/*
 * System calls that fail, or that take their time at the worst moment. This program has the walls
 * linked in, and the linker sends what they call through the functions below (--wrap).
 */
#include "sandbox.h"

#include "../../native/process/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
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

long __real_syscall(long number, long first, long second);
long __wrap_syscall(long number, long first, long second);
long __wrap_syscall(long number, long first, long second)
{
    if (number == SYS_pidfd_open && fault.late_hold) {
        sleep_ms(30);
    }
    return number == SYS_pidfd_open && fails("pidfd_open") ? -1
                                                           : __real_syscall(number, first, second);
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
    return fails("pthread_atfork") ? errno : __real_pthread_atfork(prepare, parent, child);
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
