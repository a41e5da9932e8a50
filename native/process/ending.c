/*
 * How a child ends. Whoever waits here waits no longer than is said: a child that was killed need
 * not die soon, nor can it always be collected when it has. A process that traces it (one that the
 * foreign code has forked may) stops it on its way, or keeps it a zombie for as long as it likes;
 * and all memory of a large one takes its time to be freed.
 */
#include "children.h"

#include "../measure/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* Linux 5.4; glibc 2.36 names it */
#endif

enum {
    TO_GROUP = 4, /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */
    LATE_MAX = 16,
};

#define MS UINT64_C(1000000)    /* in ns */
#define BURIAL_NS (200 * MS)    /* all waits of an ending in a call together */
#define OWN_DEATH_NS (150 * MS) /* of them, for a child to die of itself */
#define CLOSING_NS (2000 * MS)  /* the same without a call */

/* Killed children that could not be collected yet, or others of whose group could not, the oldest
 * first. The lock is held to use them. Until all are collected no other process and no other group
 * has their number. */
static struct late_child {
    pid_t pid; /* and process group */
    int pidfd;
    bool collected; /* itself */
} late_children[LATE_MAX];
static size_t late_count;

/* ---- waiting ---- */

/* By iso_now_ns(). */
static bool passed(uint64_t deadline_ns)
{
    return iso_now_ns() >= deadline_ns;
}

static void sleep_a_ms(void)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)MS}, NULL);
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

/* Whether the child is dead by then. No signal handler cuts it short or starts it anew. */
static bool dies_by(const struct child *child, uint64_t deadline_ns)
{
    if (child->pidfd < 0) {
        return true;
    }
    struct pollfd death = {.fd = child->pidfd, .events = POLLIN};
    uint64_t now = iso_now_ns();
    uint64_t left = now < deadline_ns ? deadline_ns - now : 0;
    struct timespec moment = {.tv_sec = (time_t)(left / (1000 * MS)),
                              .tv_nsec = (long)(left % (1000 * MS))};
    sigset_t all;
    sigfillset(&all);
    int deaths = ppoll(&death, 1, &moment, &all);
    while (deaths < 0) { /* EINVAL: it may open no descriptor, by RLIMIT_NOFILE */
        siginfo_t info;
        if (wait_for(P_PIDFD, child->pidfd, &info, WEXITED | WNOWAIT) != 0 || info.si_pid != 0) {
            return true;
        }
        if (passed(deadline_ns)) {
            return false;
        }
        sleep_a_ms();
    }
    return deaths > 0;
}

/* ---- groups ---- */

/* A signal, or 0, to the process group that began with a child, by what holds that child: its
 * number may be another's by now. An older kernel answers EINVAL. */
static int signal_group_of(int pidfd, int signal)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, TO_GROUP);
}

/* Those that the foreign code has made children of this process, by CLONE_PARENT, and that have not
 * left its group; they have been killed with it. Whether none is left: ECHILD, as good as always. A
 * tracer may keep them as it may keep the child. */
static bool collect_group(pid_t group, uint64_t deadline_ns)
{
    siginfo_t info;
    while (wait_for(P_PGID, group, &info, WEXITED) == 0) {
        if (info.si_pid == 0) {
            if (passed(deadline_ns)) {
                return false;
            }
            sleep_a_ms();
        }
    }
    return true;
}

/* ---- those that come late ---- */

/* Whether nothing is left of a child and its group that could be collected. Waits for nothing. */
static bool collect_late(struct late_child *late)
{
    if (!late->collected) {
        siginfo_t info;
        int result = wait_for(P_PIDFD, late->pidfd, &info, WEXITED);
        if (result != 0) {
            return true; /* somebody else has collected it, and does so with the others */
        }
        late->collected = info.si_pid != 0;
        return late->collected && collect_group(late->pid, 0);
    }
    /* Where the user's program has collected the last of the group, its number is free. (A kernel
     * before 6.9 cannot tell, and numbers are given out in turn.) */
    if (signal_group_of(late->pidfd, 0) != 0 && errno == ESRCH) {
        return true;
    }
    return collect_group(late->pid, 0);
}

void collect_late_children(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < late_count; i++) {
        if (collect_late(&late_children[i])) {
            close_descriptor(&late_children[i].pidfd);
        } else {
            late_children[kept++] = late_children[i];
        }
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
static void keep_late_child(struct child *child, bool collected)
{
    if (late_count == LATE_MAX) {
        close_descriptor(&late_children[0].pidfd);
        late_count--;
        memmove(late_children, late_children + 1, late_count * sizeof(late_children[0]));
    }
    late_children[late_count++] = (struct late_child){child->pid, child->pidfd, collected};
    child->pidfd = -1;
}

/* ---- ending ---- */

enum end {
    END_KNOWN,
    END_UNKNOWN, /* somebody else has collected it */
    END_LATE,    /* it cannot be collected yet */
};

/* Kills the child with its process group and collects it. END_KNOWN: *info tells its end. */
static enum end kill_and_collect(const struct child *child, uint64_t deadline_ns, siginfo_t *info)
{
    if (child->pidfd < 0) {
        return END_UNKNOWN;
    }
    /* Where the user's program has collected the child, with waitpid(-1) or because it ignores
     * SIGCHLD, its number may be somebody else's: then by the descriptor, and before Linux 6.9 not
     * at all. Until then it cannot be. (Collected between the lines below, it does no harm: numbers
     * are given out in turn.) */
    if (wait_for(P_PIDFD, child->pidfd, info, WEXITED | WNOWAIT) != 0) {
        signal_group_of(child->pidfd, SIGKILL); /* ESRCH: as good as always, there is none */
        return END_UNKNOWN;
    }
    bool dead = info->si_pid != 0;
    kill(-child->pid, SIGKILL); /* ESRCH: it has not made its group, or has left it */
    if (!dead) {
        kill(child->pid, SIGKILL);
        dies_by(child, deadline_ns);
    }
    if (wait_for(P_PIDFD, child->pidfd, info, WEXITED) != 0) {
        return END_UNKNOWN;
    }
    return info->si_pid == 0 ? END_LATE : END_KNOWN;
}

static void bury(struct child *child, enum end end, uint64_t deadline_ns)
{
    bool late = end == END_LATE || (end == END_KNOWN && !collect_group(child->pid, deadline_ns));
    sigset_t before = hold_signals();
    lock_children();
    collect_late_children();
    if (late) {
        keep_late_child(child, end == END_KNOWN);
    }
    forget_child(child);
    unlock_children();
    release_signals(&before);
}

static void end_within(struct child *child, uint64_t ns)
{
    if (child->pid > 0) {
        siginfo_t info;
        uint64_t deadline_ns = iso_now_ns() + ns;
        enum end end = kill_and_collect(child, deadline_ns, &info);
        bury(child, end, deadline_ns);
    }
}

void end_child(struct child *child)
{
    end_within(child, BURIAL_NS);
}

void end_child_for_good(struct child *child)
{
    end_within(child, CLOSING_NS);
    sigset_t before = hold_signals();
    lock_children();
    collect_late_children();
    unlock_children();
    release_signals(&before);
}

void bury_child(struct child *child, struct iso_fault *fault)
{
    uint64_t begin_ns = iso_now_ns();
    bool died = dies_by(child, begin_ns + OWN_DEATH_NS);
    siginfo_t info;
    enum end end = kill_and_collect(child, begin_ns + BURIAL_NS, &info);
    bool known = end == END_KNOWN;
    bury(child, end, begin_ns + BURIAL_NS);
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
    uint64_t deadline_ns = iso_now_ns() + BURIAL_NS;
    while (!passed(deadline_ns)) {
        pid_t ended = waitpid(pid, NULL, WNOHANG);
        if (ended > 0 || (ended < 0 && errno != EINTR)) {
            break;
        }
        sleep_a_ms();
    }
}
