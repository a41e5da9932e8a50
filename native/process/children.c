#include "children.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static pthread_mutex_t children_lock = PTHREAD_MUTEX_INITIALIZER;
static struct child *children;
static sigset_t mask_at_fork;          /* to put back; the lock is held from then till then */
static __thread struct child *newborn; /* that this thread forks */
enum { FORK_HANDLERS_KNOWN = -1 };
static atomic_int fork_handlers; /* 0: unknown; known; or the process that is registering them */

void lock_children(void)
{
    pthread_mutex_lock(&children_lock);
}

void unlock_children(void)
{
    pthread_mutex_unlock(&children_lock);
}

/* ---- the list ---- */

void close_descriptor(int *fd)
{
    if (*fd >= 0) {
        close(*fd); /* Linux frees the descriptor whatever close() answers */
    }
    *fd = -1;
}

/* The descriptors stay -1: a signal handler that forks may return into the middle of a call. */
static void let_go(struct child *child)
{
    close_descriptor(&child->request_write);
    close_descriptor(&child->request_keeper);
    close_descriptor(&child->reply_read);
    close_descriptor(&child->reply_write);
    close_descriptor(&child->pidfd);
    child->pid = 0;
    child->next = NULL;
    child->previous = NULL;
}

void remember_child(struct child *child)
{
    child->previous = NULL;
    child->next = children;
    if (children != NULL) {
        children->previous = child;
    }
    children = child;
}

void forget_child(struct child *child)
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

/* A handler that comes while this thread holds the lock, between here and the end of fork(), would
 * wait for it without end if it forks itself or uses a sandbox. Our own fork() has held signals for
 * longer, and for longer does. */
static void before_fork(void)
{
    if (newborn != NULL) {
        lock_children();
        return;
    }
    sigset_t before = hold_signals_of_others();
    lock_children();
    mask_at_fork = before;
}

static void after_fork(void)
{
    sigset_t before = mask_at_fork;
    unlock_children(); /* held by the thread that forked, which is this one */
    if (newborn == NULL) {
        release_signals(&before);
    }
}

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
    forget_late_children();
    atomic_store(&fork_handlers, FORK_HANDLERS_KNOWN); /* or this would not run */
    after_fork();
}

/* Once, but for want of memory: then the next one asks again, which pthread_once() would not. */
int register_fork_handlers(void)
{
    int state;
    while ((state = atomic_load(&fork_handlers)) != FORK_HANDLERS_KNOWN) {
        pid_t self = getpid();
        /* That of another process is left over from before a fork(): its thread is not here. */
        if (state != self && atomic_compare_exchange_strong(&fork_handlers, &state, self)) {
            int error = pthread_atfork(before_fork, after_fork, after_fork_in_child);
            atomic_store(&fork_handlers, error == 0 ? FORK_HANDLERS_KNOWN : 0);
            return error;
        }
        sched_yield();
    }
    return 0;
}

/* Before those of a program that has this library from its start: children.h says what for. If
 * there is no memory, the first sandbox asks again. */
__attribute__((constructor)) static void register_fork_handlers_early(void)
{
    (void)register_fork_handlers();
}

pid_t fork_newborn(struct child *child)
{
    newborn = child;
    pid_t pid = fork();
    newborn = NULL;
    return pid;
}
