#include "spawn.h"

#include "hardening.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* Linux 5.4; glibc 2.36 names it */
#endif

enum { BURIAL_NS = 200000000 };

/*
 * All children of this process, from before they are born: the lock is held while a descriptor of
 * theirs is made or closed, and around every fork(), whose new process closes all of them. So no
 * process that fork() makes keeps the end of a pipe whose closing somebody waits for.
 * (posix_spawn() and vfork() know no such handlers; what they start loses the pipes at its
 * execve().)
 *
 * Who holds the lock takes no other and calls no fork(). So the locks that fork handlers take, this
 * one and those of others, are taken in the handlers' order alone, whoever forks. (glibc
 * before 2.36 has one of its own, which it holds meanwhile.) Signals are blocked while this one is
 * held: a handler may fork, too.
 */
static pthread_mutex_t children_lock = PTHREAD_MUTEX_INITIALIZER;
static struct child *children;
static __thread struct child *newborn; /* that this thread forks */
enum { FORK_HANDLERS_KNOWN = -1 };
static atomic_int fork_handlers; /* 0: unknown; known; or the process that is registering them */

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
    close_fd(&child->reply_write);
    close_fd(&child->pidfd);
}

/* The descriptors stay -1: a signal handler that forks may return into the middle of a call. */
static void let_go(struct child *child)
{
    close_ends(child);
    child->pid = 0;
    child->next = NULL;
    child->previous = NULL;
}

/* *before is the signal mask to put back. */
static void block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before); /* fails only for an operation that is none */
}

static void unblock_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void lock_children(void)
{
    pthread_mutex_lock(&children_lock);
}

static void unlock_children(void)
{
    pthread_mutex_unlock(&children_lock);
}

/* The lock is held, as below. */
static void remember(struct child *child)
{
    child->previous = NULL;
    child->next = children;
    if (children != NULL) {
        children->previous = child;
    }
    children = child;
}

static void forget(struct child *child)
{
    if (child->previous != NULL) {
        child->previous->next = child->next;
    } else {
        children = child->next;
    }
    if (child->next != NULL) {
        child->next->previous = child->previous;
    }
    let_go(child);
}

/* ---- fork(), ours and the user's ---- */

/* The new process is nobody's parent yet: it lets go of every child that it knows of, but for what
 * it is itself. */
static void after_fork_in_child(void)
{
    while (children != NULL) {
        struct child *child = children;
        children = child->next;
        if (child != newborn) {
            let_go(child);
        }
    }
    atomic_store(&fork_handlers, FORK_HANDLERS_KNOWN); /* or this would not run */
    pthread_mutex_unlock(&children_lock); /* held by the thread that forked, which is this one */
}

/* Once, but for want of memory: then the next one asks again, which pthread_once() would not.
 * Returns an errno. */
static int register_fork_handlers(void)
{
    int state;
    while ((state = atomic_load(&fork_handlers)) != FORK_HANDLERS_KNOWN) {
        pid_t self = getpid();
        /* That of another process is left over from before a fork(): its thread is not here. */
        if (state != self && atomic_compare_exchange_strong(&fork_handlers, &state, self)) {
            int error = pthread_atfork(lock_children, unlock_children, after_fork_in_child);
            atomic_store(&fork_handlers, error == 0 ? FORK_HANDLERS_KNOWN : 0);
            return error;
        }
        sched_yield();
    }
    return 0;
}

/* ---- starting ---- */

static enum iso_status refused(struct iso_fault *fault, const char *what, int error)
{
    *fault = (struct iso_fault){.system_errno = error, .what = what, .exit_code = -1};
    return ISO_SYSTEM_ERROR;
}

/*
 * Opens a pipe for requests, if there are to be any, and one for answers. Returns the system call
 * that was refused, or NULL. Of the first the parent keeps the reading end open as well: then a
 * write to a dead child cannot raise SIGPIPE in the user's program, whatever it has done to that
 * signal. The writing end does not block; a full pipe is waited for together with the child's
 * death.
 */
static const char *open_pipes(struct child *child, bool requests)
{
    int ends[2];
    if (requests) {
        if (pipe2(ends, O_CLOEXEC) != 0) {
            return "pipe2";
        }
        child->request_keeper = ends[0];
        child->request_write = ends[1];
        if (fcntl(child->request_write, F_SETFL, O_NONBLOCK) != 0) {
            return "fcntl";
        }
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return "pipe2";
    }
    child->reply_read = ends[0];
    child->reply_write = ends[1];
    return NULL;
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
    newborn = child;
    pid_t pid = fork();
    newborn = NULL;
    if (pid == 0) {
        close_fd(&child->request_write);
        close_fd(&child->reply_read);
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
    if (cpu >= 0 && pin(pid, cpu) != 0 && errno != ESRCH) {
        return "sched_setaffinity";
    }
    return NULL;
}

static void kill_group(pid_t pid)
{
    kill(-pid, SIGKILL); /* ESRCH: it has not made its group, or has left it */
    kill(pid, SIGKILL);
}

/* Waits for a child to have hardened itself, which takes no longer than to fork it. */
static enum iso_status await_setup(struct child *child, struct iso_fault *fault)
{
    struct wire_setup setup;
    ssize_t got;
    do {
        got = read(child->reply_read, &setup, sizeof(setup));
    } while (got < 0 && errno == EINTR);
    int error = got < 0 ? errno : ECHILD;
    const char *what = got < 0 ? "read" : "the child, which died while setting itself up";
    if (got == (ssize_t)sizeof(setup)) {
        if (setup.step == HARDEN_DONE) {
            return ISO_OK;
        }
        error = setup.error;
        what = harden_step_name(setup.step);
    }
    end_child(child);
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
    sigset_t before;
    block_signals(&before);
    lock_children();
    *child = (struct child){.pidfd = -1,
                            .request_write = -1,
                            .request_keeper = -1,
                            .reply_read = -1,
                            .reply_write = -1};
    remember(child);
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
    close_fd(&child->reply_write);
    if (what != NULL) {
        forget(child);
    }
    unlock_children();
    unblock_signals(&before);

    if (what == NULL) {
        bool reports = life->hardening != NULL && life->request == NULL;
        return reports ? await_setup(child, fault) : ISO_OK;
    }
    if (pid > 0) {
        kill_group(pid);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return refused(fault, what, error);
}

/* ---- ending ---- */

static void bury(struct child *child)
{
    sigset_t before;
    block_signals(&before);
    lock_children();
    forget(child);
    unlock_children();
    unblock_signals(&before);
}

static int wait_for(const struct child *child, siginfo_t *info, int flags)
{
    int result;
    do {
        *info = (siginfo_t){0};
        result = waitid((idtype_t)P_PIDFD, (id_t)child->pidfd, info, flags);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Kills the child with its process group and collects it. Returns whether *info tells its end. */
static bool kill_and_collect(const struct child *child, siginfo_t *info)
{
    /* Signals to a group go by number, and that may be somebody else's once the child is collected,
     * which the user's program may have done with waitpid(-1). Until then it cannot. (Collected
     * between the two lines below, it does no harm: numbers are given out in turn.) */
    if (child->pidfd < 0 || wait_for(child, info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        return false;
    }
    kill_group(child->pid);
    return wait_for(child, info, WEXITED) == 0;
}

void end_child(struct child *child)
{
    if (child->pid > 0) {
        siginfo_t info;
        kill_and_collect(child, &info);
        bury(child);
    }
}

/* Waits a moment for the child to be dead. No signal handler cuts it short or starts it anew. */
static bool dies_soon(const struct child *child)
{
    if (child->pidfd < 0) {
        return true;
    }
    struct pollfd death = {.fd = child->pidfd, .events = POLLIN};
    struct timespec moment = {.tv_nsec = BURIAL_NS};
    sigset_t all;
    sigfillset(&all);
    int deaths = ppoll(&death, 1, &moment, &all);
    if (deaths < 0) { /* EINVAL: the program may open no descriptor, by RLIMIT_NOFILE */
        nanosleep(&moment, NULL);
    }
    return deaths > 0;
}

void bury_child(struct child *child, struct iso_fault *fault)
{
    bool died = dies_soon(child);
    siginfo_t info;
    bool known = kill_and_collect(child, &info);
    bury(child);
    /* A large process takes its time to die; then it was not our SIGKILL that ended it. */
    if (!died && (!known || (info.si_code != CLD_EXITED && info.si_status == SIGKILL))) {
        fault->violation = ISO_VIOLATION_PROTOCOL;
        fault->what = "the child ended its side of the conversation and lived on";
    } else if (known && info.si_code != CLD_EXITED) {
        fault->violation = ISO_VIOLATION_SIGNAL;
        fault->signal = info.si_status;
    } else {
        fault->violation = ISO_VIOLATION_EXIT;
        fault->exit_code = known ? info.si_status : -1;
    }
}
