/*
 * Every call that a wall makes fails once, each time in a process of its own, in which a sandbox
 * lives one life from opening to closing with the fault in it, and another without.
 *
 * What must come of it: at most one step of that life is an error, of the kind that the contract
 * documents for it, and works when it is tried again; all others are as without the fault; and
 * afterwards the process holds what it would have held.
 *
 * Environment: FAULTS_ALL: each call with each errno, not only the first that a call site makes in
 * a step, with the first; FAULTS_REPORT: a file to append to, a line a fault:
 *     wall, side, step, callee, number, errno, call site, outcome, what is known of it
 * separated by tabs.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "sandbox.h"

enum step {
    OPENING,
    CALL,
    LARGE_CALL,
    LIMITED_CALL,
    FOREIGN_ERROR,
    VIOLATION,
    CALL_AFTER_VIOLATION,
    TIMEOUT,
    CALL_AFTER_TIMEOUT,
    SIGNAL,
    FORK,
    THREAD,
    DATA,
    CLOSING,
    SECOND_LIFE,
    STEP_COUNT
};

struct sweep {
    const char *wall;   /* its name */
    void (*life)(void); /* of one of its sandboxes */
    bool brief;         /* of a call site one call, not one in each step */
    bool whole;         /* what it sends is so short that pipes pass it on in one piece */
    long slack;         /* bytes by which what malloc has allocated may differ; 0 otherwise */
    /* Functions after whose failure the process may hold more; ends with NULL, as may it itself. */
    const char *const *keeps;
};

/* Fails the test if anything was not as it must be. */
void sweep(const struct sweep *sweep);

/* ---- within a life ---- */

void begin_step(enum step step);

/* A call, gone on with if it was interrupted. */
struct answer call_through(const struct box *box, uint64_t timeout_ns, enum foreign function,
                           const void *input, size_t length);

/* A step went wrong: the fault is the reason, and this answer tells it. Or the trial ends. */
void excuse(const struct answer *answer);

/* Tries `expression`, an answer; if that is not right, once more. */
#define ATTEMPT(answer, expression, right)                                                         \
    do {                                                                                           \
        (answer) = (expression);                                                                   \
        if (!(right)) {                                                                            \
            excuse(&(answer));                                                                     \
            (answer) = (expression);                                                               \
            if (!(right)) {                                                                        \
                not_right(&(answer));                                                              \
            }                                                                                      \
        }                                                                                          \
    } while (0)
_Noreturn void not_right(const struct answer *answer);

/* Steps that walls have in common. */
void open_step(struct box *box);
void call_step(const struct box *box, enum step step, uint64_t timeout_ns, const void *input,
               size_t length);
void error_step(const struct box *box);
void violation_step(const struct box *box);
void timeout_step(const struct box *box, enum foreign endless);
/* The program forks, and the new process calls. */
void fork_step(const struct box *box);
void close_step(struct box *box);

#endif
