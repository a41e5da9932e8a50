#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* Linux 5.4; glibc 2.36 names it */
#endif

enum { BURIAL_MS = 200 };

/*
 * All children of this process. The lock is held from making the pipes of a child to closing its
 * ends here, and around every fork() of the program, so that no process ever inherits the end of a
 * pipe whose closing somebody waits for.
 */
static pthread_mutex_t children_lock = PTHREAD_MUTEX_INITIALIZER;
static struct child *children;
static __thread bool forking_child; /* this thread holds the lock and forks a sandbox */
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;
static int fork_handlers_errno;

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd); /* Linux frees the descriptor whatever close() answers */
    }
    *fd = -1;
}

static void close_ends(struct child *child)
{
    close_fd(&child->request_write);
    close_fd(&child->request_keeper);
    close_fd(&child->reply_read);
    close_fd(&child->pidfd);
}

/* ---- fork(), ours and the user's ---- */

static void before_fork(void)
{
    if (!forking_child) {
        pthread_mutex_lock(&children_lock);
    }
}

static void after_fork_in_parent(void)
{
    if (!forking_child) {
        pthread_mutex_unlock(&children_lock);
    }
}

/* The new process is nobody's parent yet: it lets go of every child that it knows of. */
static void after_fork_in_child(void)
{
    while (children != NULL) {
        struct child *child = children;
        children = child->next;
        close_ends(child);
        *child = (struct child){0};
    }
    pthread_mutex_init(&children_lock, NULL); /* its owner may be a thread that is not here */
}

static void register_fork_handlers(void)
{
    fork_handlers_errno = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- starting ---- */

static enum iso_status refused(struct iso_fault *fault, const char *what, int error)
{
    *fault = (struct iso_fault){.system_errno = error, .what = what, .exit_code = -1};
    return ISO_SYSTEM_ERROR;
}

/*
 * The request pipe. The parent keeps the reading end open as well: then a write to a dead child
 * cannot raise SIGPIPE in the user's program, whatever it has done to that signal. The writing end
 * does not block; a full pipe is waited for together with the child's death.
 */
static bool open_request_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    if (fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) {
        int error = errno;
        close_fd(&ends[0]);
        close_fd(&ends[1]);
        errno = error;
        return false;
    }
    return true;
}

_Noreturn static void live(const struct child_life *life, pid_t parent, int request_read,
                           int reply_write)
{
    struct child_context context = {
        .functions = life->functions,
        .function_count = life->function_count,
        .parent = parent,
        .request_read = request_read,
        .reply_write = reply_write,
    };
    child_prepare(&context);
    if (life->echo) {
        child_echo(&context);
    }
    if (life->request != NULL) {
        child_run_once(&context, life->request, life->call);
    }
    child_serve(&context);
}

static pid_t fork_with_signals_blocked(const struct child_life *life, const int request[2],
                                       const int reply[2])
{
    /* Until the child has put the default actions back, a handler of the parent's would run in it:
     * CPython's writes to a descriptor that both share. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    int error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error != 0) {
        errno = error;
        return -1;
    }
    pid_t parent = getpid();
    forking_child = true;
    pid_t pid = fork();
    error = errno;
    forking_child = false;
    if (pid == 0) {
        if (request[1] >= 0) {
            close(request[1]);
        }
        close(reply[0]);
        live(life, parent, request[0], reply[1]);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL); /* a mask that was in force is valid */
    errno = error;
    return pid;
}

static int pin(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < 0 || cpu >= CPU_SETSIZE) {
        errno = EINVAL;
        return -1;
    }
    CPU_SET(cpu, &set);
    return sched_setaffinity(pid, sizeof(set), &set);
}

enum iso_status spawn_child(struct child *child, const struct child_life *life,
                            struct iso_fault *fault)
{
    pthread_once(&fork_handlers, register_fork_handlers);
    if (fork_handlers_errno != 0) {
        return refused(fault, "pthread_atfork", fork_handlers_errno);
    }
    int request[2] = {-1, -1};
    int reply[2] = {-1, -1};
    const char *what = NULL;
    int error = 0;
    struct child born = {.pidfd = -1, .request_write = -1, .request_keeper = -1, .reply_read = -1};

    pthread_mutex_lock(&children_lock);
    if (life->request == NULL && !open_request_pipe(request)) {
        what = "pipe2";
    } else if (pipe2(reply, O_CLOEXEC) != 0) {
        what = "pipe2";
    } else {
        born.pid = fork_with_signals_blocked(life, request, reply);
        what = born.pid < 0 ? "fork" : NULL;
    }
    error = errno;
    close_fd(&reply[1]);
    born.request_keeper = request[0];
    born.request_write = request[1];
    born.reply_read = reply[0];
    if (what == NULL) {
        born.pidfd = (int)syscall(SYS_pidfd_open, born.pid, 0);
        if (born.pidfd < 0) {
            what = "pidfd_open";
            error = errno;
        } else if (life->cpu >= 0 && pin(born.pid, life->cpu) != 0) {
            what = "sched_setaffinity";
            error = errno;
        }
        *child = born;
        child->next = children;
        if (children != NULL) {
            children->previous = child;
        }
        children = child;
    } else {
        close_ends(&born);
    }
    pthread_mutex_unlock(&children_lock);

    if (what != NULL) {
        end_child(child);
        return refused(fault, what, error);
    }
    return ISO_OK;
}

/* ---- ending ---- */

static void forget(struct child *child)
{
    pthread_mutex_lock(&children_lock);
    if (child->previous != NULL) {
        child->previous->next = child->next;
    } else {
        children = child->next;
    }
    if (child->next != NULL) {
        child->next->previous = child->previous;
    }
    close_ends(child);
    *child = (struct child){0};
    pthread_mutex_unlock(&children_lock);
}

static int wait_for(const struct child *child, siginfo_t *info, int flags)
{
    /* By descriptor, because the number may be somebody else's by now: the user's program may have
     * collected the child with waitpid(-1). Without a descriptor it was forked this instant. */
    idtype_t type = child->pidfd >= 0 ? (idtype_t)P_PIDFD : P_PID;
    id_t id = child->pidfd >= 0 ? (id_t)child->pidfd : (id_t)child->pid;
    int result;
    do {
        *info = (siginfo_t){0};
        result = waitid(type, id, info, flags);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Kills the child with its process group and collects it. Returns whether *info tells its end. */
static bool kill_and_collect(const struct child *child, siginfo_t *info)
{
    /* While the child is ours to collect, its number and its group's cannot be anybody else's. */
    if (wait_for(child, info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        return false;
    }
    kill(-child->pid, SIGKILL); /* ESRCH: it died before it made its group */
    kill(child->pid, SIGKILL);
    return wait_for(child, info, WEXITED) == 0;
}

void end_child(struct child *child)
{
    if (child->pid > 0) {
        siginfo_t info;
        kill_and_collect(child, &info);
        forget(child);
    }
}

void bury_child(struct child *child, struct iso_fault *fault)
{
    struct pollfd death = {.fd = child->pidfd, .events = POLLIN};
    int dead;
    do {
        dead = poll(&death, 1, BURIAL_MS);
    } while (dead < 0 && errno == EINTR);

    siginfo_t info;
    bool known = kill_and_collect(child, &info);
    forget(child);
    if (dead <= 0) {
        fault->violation = ISO_VIOLATION_PROTOCOL;
        fault->what = "the child closed its end of the pipe and lived on";
    } else if (known && info.si_code != CLD_EXITED) {
        fault->violation = ISO_VIOLATION_SIGNAL;
        fault->signal = info.si_status;
    } else {
        fault->violation = ISO_VIOLATION_EXIT;
        fault->exit_code = known ? info.si_status : -1;
    }
}
