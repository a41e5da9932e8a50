/* A forked child and the pipes to it, from the parent's side: how it starts and how it ends. */
#ifndef PROCESS_SPAWN_H
#define PROCESS_SPAWN_H

#include "child.h"
#include "isolation.h"

#include <sys/types.h>

/*
 * Zero-initialised, or made by spawn_child(). pid 0 means that there is no child, which is also
 * what fork() in the user's program makes of it: the child belongs to the old process.
 */
struct child {
    pid_t pid;
    int pidfd;          /* -1: it was dead and collected by somebody else before we had it */
    int request_write;  /* non-blocking; -1 when there is no request pipe */
    int request_keeper; /* its other end, see spawn_child(); -1 likewise */
    int reply_read;     /* blocks, unless: */
    bool reply_polled;  /* it is waited for by poll, and reading it does not block */
    int reply_write;    /* -1 once it is born: the end is its own */
    struct child *next, *previous; /* list of all children of this process */
};

/* Which life the child starts. */
struct child_life {
    iso_function *const *functions;
    size_t function_count;
    int cpu;                           /* pinned to it; -1: not pinned */
    const struct iso_request *request; /* run this once; NULL: serve requests */
    uint32_t call;                     /* number of that one call */
    bool echo;                         /* serve no functions, send back what comes */
    struct hardening *hardening;       /* NULL: it keeps what it inherits */
    uint64_t deadline_ns;              /* CLOCK_MONOTONIC: of the call that waits; 0: none */
};

/*
 * Starts *child (whose pid must be 0). On failure nothing is left behind and *fault says why. If it
 * serves requests and is hardened, it has done that on return, by the deadline (or that is the
 * violation of a time limit), and without one in 5 s; one that runs a single call exits with
 * CHILD_EXIT_SETUP where it cannot.
 */
enum iso_status spawn_child(struct child *child, const struct child_life *life,
                            struct iso_fault *fault);

/*
 * Ends *child with its process group (all that it forked, unless that has left the group), and
 * collects it and those of the group that are children of this process, within 200 ms in all. What
 * is not dead by then, or is kept by a tracer from being collected, is collected when a later child
 * is started or ended; but of no more than 16 groups, and of more the last. If the user's program
 * has collected the child itself, its group is killed from Linux 6.9 on, and left alone before.
 */
void end_child(struct child *child);

/* The same where no call waits: that takes up to 2 s. */
void end_child_for_good(struct child *child);

/*
 * The child's answer broke off, or was a death note: finds out why and ends the child as above. The
 * exit status is there only a moment later, so this waits up to 150 ms for it, whatever the call's
 * time limit, and for all of the ending up to 200 ms; a child that lives on has closed its own end
 * or lied, which violates the protocol.
 */
void bury_child(struct child *child, struct iso_fault *fault);

/* Ends a child of which there is no more than its number. */
void end_without_hold(pid_t pid);

#endif
