/*
 * How a child ends. Whoever waits here waits no longer than is said: a child that was killed need
 * not die soon, nor can it always be collected when it has. A process that traces it (one that the
 * foreign code has forked may) stops it on its way, or keeps it a zombie for as long as it likes;
 * and all memory of a large one takes its time to be freed.
 */
#include "children.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* Linux 5.4; glibc 2.36 names it */
#endif

enum {
    BURIAL_MS = 200,   /* in a call */
    CLOSING_MS = 2000, /* without a limit */
    LATE_MAX = 16,
};

/* Killed children that could not be collected yet, the oldest first. The lock is held to use them.
 * Until they are collected no other process and no other group has their number. */
static struct late_child {
    pid_t pid;
    int pidfd;
} late_children[LATE_MAX];
static size_t late_count;

/* ---- waiting ---- */

static void sleep_a_ms(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* info->si_pid: 0 where none has ended that could be collected. */
static int wait_for(int kind, int id, siginfo_t *info, int flags)
{
    int result;
    do {
        *info = (siginfo_t){0};
        result = waitid((idtype_t)kind, (id_t)id, info, flags | WNOHANG);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Whether the child dies within that time. No signal handler cuts it short or starts it anew. */
static bool dies_within(const struct child *child, int ms)
{
    if (child->pidfd < 0) {
        return true;
    }
    struct pollfd death = {.fd = child->pidfd, .events = POLLIN};
    struct timespec moment = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    sigset_t all;
    sigfillset(&all);
    int deaths = ppoll(&death, 1, &moment, &all);
    while (deaths < 0 && ms-- > 0) { /* EINVAL: it may open no descriptor, by RLIMIT_NOFILE */
        siginfo_t info;
        if (wait_for(P_PIDFD, child->pidfd, &info, WEXITED | WNOWAIT) != 0 || info.si_pid != 0) {
            return true;
        }
        sleep_a_ms();
    }
    return deaths > 0;
}

/* ---- collecting ---- */

/* Those that the foreign code has made children of this process, by CLONE_PARENT, and that have not
 * left its group; they have been killed with it. ECHILD, as good as always: there is none. */
static void collect_group(pid_t group, int ms)
{
    siginfo_t info;
    while (wait_for(P_PGID, group, &info, WEXITED) == 0 && (info.si_pid != 0 || ms-- > 0)) {
        if (info.si_pid == 0) {
            sleep_a_ms();
        }
    }
}

void collect_late_children(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < late_count; i++) {
        struct late_child *late = &late_children[i];
        siginfo_t info;
        int result = wait_for(P_PIDFD, late->pidfd, &info, WEXITED);
        if (result == 0 && info.si_pid == 0) {
            late_children[kept++] = *late;
            continue;
        }
        if (result == 0) {
            collect_group(late->pid, 0);
        }
        close_descriptor(&late->pidfd);
    }
    late_count = kept;
}

void forget_late_children(void)
{
    while (late_count > 0) {
        close_descriptor(&late_children[--late_count].pidfd);
    }
}

/* Of too many the oldest is left to be what it is: a zombie of the program's, until that ends. */
static void keep_late_child(struct child *child)
{
    if (late_count == LATE_MAX) {
        close_descriptor(&late_children[0].pidfd);
        late_count--;
        memmove(late_children, late_children + 1, late_count * sizeof(late_children[0]));
    }
    late_children[late_count++] = (struct late_child){child->pid, child->pidfd};
    child->pidfd = -1;
}

/* ---- ending ---- */

enum end {
    END_KNOWN,
    END_UNKNOWN, /* somebody else has collected it */
    END_LATE,    /* it cannot be collected yet */
};

/* Kills the child with its process group and collects it. END_KNOWN: *info tells its end. */
static enum end kill_and_collect(const struct child *child, int ms, siginfo_t *info)
{
    /* Signals to a group go by number, and that may be somebody else's once the child is collected,
     * which the user's program may have done with waitpid(-1). Until then it cannot. (Collected
     * between the lines below, it does no harm: numbers are given out in turn.) */
    if (child->pidfd < 0 || wait_for(P_PIDFD, child->pidfd, info, WEXITED | WNOWAIT) != 0) {
        return END_UNKNOWN;
    }
    bool dead = info->si_pid != 0;
    kill(-child->pid, SIGKILL); /* ESRCH: it has not made its group, or has left it */
    if (!dead) {
        kill(child->pid, SIGKILL);
        dies_within(child, ms);
    }
    if (wait_for(P_PIDFD, child->pidfd, info, WEXITED) != 0) {
        return END_UNKNOWN;
    }
    if (info->si_pid == 0) {
        return END_LATE;
    }
    collect_group(child->pid, BURIAL_MS);
    return END_KNOWN;
}

static void bury(struct child *child, enum end end)
{
    sigset_t before = hold_signals();
    lock_children();
    collect_late_children();
    if (end == END_LATE) {
        keep_late_child(child);
    }
    forget_child(child);
    unlock_children();
    release_signals(&before);
}

static void end_within(struct child *child, int ms)
{
    if (child->pid > 0) {
        siginfo_t info;
        bury(child, kill_and_collect(child, ms, &info));
    }
}

void end_child(struct child *child)
{
    end_within(child, BURIAL_MS);
}

void end_child_for_good(struct child *child)
{
    end_within(child, CLOSING_MS);
    sigset_t before = hold_signals();
    lock_children();
    collect_late_children();
    unlock_children();
    release_signals(&before);
}

void bury_child(struct child *child, struct iso_fault *fault)
{
    bool died = dies_within(child, BURIAL_MS);
    siginfo_t info;
    enum end end = kill_and_collect(child, BURIAL_MS, &info);
    bool known = end == END_KNOWN;
    bury(child, end);
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

void end_without_hold(pid_t pid)
{
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    for (int ms = 0; ms < BURIAL_MS; ms++) {
        pid_t ended = waitpid(pid, NULL, WNOHANG);
        if (ended > 0 || (ended < 0 && errno != EINTR)) {
            break;
        }
        sleep_a_ms();
    }
}
