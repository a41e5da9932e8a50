/* A forked child and the pipes to it, from the parent's side: how it starts and how it ends. */
#ifndef PROCESS_SPAWN_H
#define PROCESS_SPAWN_H

#include "child.h"
#include "isolation.h"

#include <sys/types.h>

/*
 * Zero-initialised, or made by spawn_child(). All zero (pid 0) means that there is no child, which
 * is also what fork() in the user's program makes of it: the child belongs to the old process.
 */
struct child {
    pid_t pid;
    int pidfd;
    int request_write;  /* non-blocking; -1 when there is no request pipe */
    int request_keeper; /* its other end, see spawn_child(); -1 likewise */
    int reply_read;
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
};

/* Starts *child (which must be all zero). On failure nothing is left behind and *fault says why. */
enum iso_status spawn_child(struct child *child, const struct child_life *life,
                            struct iso_fault *fault);

/* Ends *child with everything that it forked, collects it, and leaves *child all zero. */
void end_child(struct child *child);

/*
 * The child's answer broke off: finds out why and ends the child as above. The reply pipe is closed
 * a moment before the exit status is there, so this waits a moment for it; a child that lives
 * on has closed its own end, which is a violation of the protocol.
 */
void bury_child(struct child *child, struct iso_fault *fault);

#endif
