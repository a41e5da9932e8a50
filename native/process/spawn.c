#include "spawn.h"

#include "children.h"
#include "hardening.h"
#include "wire.h"

#include "../measure/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SETUP_NS UINT64_C(5000000000)

static enum iso_status refused(struct iso_fault *fault, const char *what, int error)
{
    *fault = (struct iso_fault){.system_errno = error, .what = what, .exit_code = -1};
    return ISO_SYSTEM_ERROR;
}

/* In a program that has closed its standard streams, a descriptor may get one of their numbers;
 * then what is printed would be sent, and what the program opens there would close it. */
static bool lift_above_streams(int *fd)
{
    if (*fd > STDERR_FILENO) {
        return true;
    }
    int above = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (above < 0) {
        errno = errno == EINVAL ? EMFILE : errno; /* EINVAL: there is no such number */
        return false;
    }
    close_descriptor(fd);
    *fd = above;
    return true;
}

/* Returns the system call that was refused, or NULL. */
static const char *open_pipe(int *read_end, int *write_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return "pipe2";
    }
    *read_end = ends[0];
    *write_end = ends[1];
    return lift_above_streams(read_end) && lift_above_streams(write_end) ? NULL : "fcntl";
}

/*
 * Opens a pipe for requests, if there are to be any, and one for answers. Returns as above. Of the
 * first the parent keeps the reading end open as well: then a write to a dead child cannot raise
 * SIGPIPE in the user's program, whatever it has done to that signal. The writing end does not
 * block; a full pipe is waited for together with the child's death.
 */
static const char *open_pipes(struct child *child, bool requests)
{
    if (requests) {
        const char *what = open_pipe(&child->request_keeper, &child->request_write);
        if (what != NULL) {
            return what;
        }
        if (fcntl(child->request_write, F_SETFL, O_NONBLOCK) != 0) {
            return "fcntl";
        }
    }
    return open_pipe(&child->reply_read, &child->reply_write);
}

_Noreturn static void live(const struct child_life *life, pid_t parent, bool main_thread,
                           int request_read, int reply_write)
{
    struct child_context context = {
        .functions = life->functions,
        .function_count = life->function_count,
        .parent = parent,
        .main_thread = main_thread,
        .request_read = request_read,
        .reply_write = reply_write,
    };
    child_prepare(&context);
    if (life->hardening != NULL) {
        child_harden(&context, life->hardening, life->request == NULL);
    }
    if (life->echo) {
        child_echo(&context);
    }
    if (life->request != NULL) {
        child_run_once(&context, life->request, life->call);
    }
    child_serve(&context);
}

/*
 * With signals blocked: until the child has put the default actions back, a handler of the parent's
 * would run in it, and CPython's writes to a descriptor that both share.
 */
static pid_t fork_child(const struct child_life *life, struct child *child)
{
    pid_t parent = getpid();
    bool main_thread = gettid() == parent;
    pid_t pid = fork_newborn(child);
    if (pid == 0) {
        close_descriptor(&child->request_write);
        close_descriptor(&child->reply_read);
        live(life, parent, main_thread, child->request_keeper, child->reply_write);
    }
    return pid;
}

static int pin(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu >= CPU_SETSIZE) {
        errno = EINVAL;
        return -1;
    }
    CPU_SET(cpu, &set);
    return sched_setaffinity(pid, sizeof(set), &set);
}

/*
 * Gets hold of a child that was forked this instant. Returns the system call that was refused, or
 * NULL. ESRCH is no refusal: a child that runs one call may be through with it, and collected
 * already, by another thread's waitpid(-1) or because the program ignores SIGCHLD.
 */
static const char *take_hold(struct child *child, pid_t pid, int cpu)
{
    child->pid = pid;
    child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (child->pidfd < 0 && errno != ESRCH) {
        return "pidfd_open";
    }
    if (child->pidfd >= 0 && !lift_above_streams(&child->pidfd)) {
        return "fcntl";
    }
    if (cpu >= 0 && pin(pid, cpu) != 0 && errno != ESRCH) {
        return "sched_setaffinity";
    }
    return NULL;
}

/*
 * Waits for a child to have hardened itself, which takes no longer than to fork it. But a fork
 * handler of some library's may wait in the child for a lock that another thread held at the fork,
 * and which nobody there gives back. Returns what was read, or -1; ETIMEDOUT: it was too late.
 */
static ssize_t read_setup(const struct child *child, uint64_t deadline_ns, struct wire_setup *setup,
                          const char **what)
{
    /* Death comes first, as in a call: who sees it sees what was sent before. */
    struct pollfd waits[2] = {
        {.fd = child->pidfd, .events = POLLIN},
        {.fd = child->reply_read, .events = POLLIN},
    };
    int count;
    *what = "ppoll";
    do {
        uint64_t now = iso_now_ns();
        uint64_t left = now < deadline_ns ? deadline_ns - now : 0;
        struct timespec moment = {.tv_sec = (time_t)(left / 1000000000u),
                                  .tv_nsec = (long)(left % 1000000000u)};
        count = ppoll(waits, 2, &moment, NULL);
    } while (count < 0 && errno == EINTR);
    if (count <= 0) {
        if (count == 0) {
            *what = "the child, which was late in setting itself up";
            errno = ETIMEDOUT;
        }
        return -1;
    }
    if (waits[1].revents == 0) {
        return 0; /* dead, and a descendant keeps the pipe open */
    }
    *what = "read";
    ssize_t got;
    do {
        got = read(child->reply_read, setup, sizeof(*setup));
    } while (got < 0 && errno == EINTR);
    return got;
}

static enum iso_status await_setup(struct child *child, uint64_t deadline_ns,
                                   struct iso_fault *fault)
{
    struct wire_setup setup;
    const char *what;
    uint64_t latest_ns = deadline_ns != 0 ? deadline_ns : iso_now_ns() + SETUP_NS;
    ssize_t got = read_setup(child, latest_ns, &setup, &what);
    int error = errno;
    if (got == (ssize_t)sizeof(setup)) {
        if (setup.step == HARDEN_DONE) {
            return ISO_OK;
        }
        error = setup.error;
        what = harden_step_name(setup.step);
    } else if (got >= 0) {
        error = ECHILD;
        what = "the child, which died while setting itself up";
    }
    end_child(child);
    if (got < 0 && error == ETIMEDOUT && deadline_ns != 0) {
        *fault = (struct iso_fault){.violation = ISO_VIOLATION_TIMEOUT, .exit_code = -1};
        return ISO_VIOLATION;
    }
    return refused(fault, what, error);
}

enum iso_status spawn_child(struct child *child, const struct child_life *life,
                            struct iso_fault *fault)
{
    int unknown = register_fork_handlers();
    if (unknown != 0) {
        return refused(fault, "pthread_atfork", unknown);
    }
    pid_t pid = -1;
    sigset_t before = hold_signals();
    lock_children();
    collect_late_children();
    *child = (struct child){.pidfd = -1,
                            .request_write = -1,
                            .request_keeper = -1,
                            .reply_read = -1,
                            .reply_write = -1};
    remember_child(child);
    const char *what = open_pipes(child, life->request == NULL);
    if (what == NULL) {
        unlock_children();
        pid = fork_child(life, child);
        int error = errno;
        lock_children();
        errno = error;
        what = pid < 0 ? "fork" : take_hold(child, pid, life->cpu);
    }
    int error = errno;
    close_descriptor(&child->reply_write);
    bool held = child->pidfd >= 0;
    if (what != NULL && !held) {
        forget_child(child);
    }
    unlock_children();
    release_signals(&before);

    if (what == NULL) {
        bool reports = life->hardening != NULL && life->request == NULL;
        return reports ? await_setup(child, life->deadline_ns, fault) : ISO_OK;
    }
    if (held) {
        end_child(child);
    } else if (pid > 0) {
        end_without_hold(pid);
    }
    return refused(fault, what, error);
}
