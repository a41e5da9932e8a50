/* The child's side of a process sandbox. Nothing here returns to the parent's code. */
#ifndef PROCESS_CHILD_H
#define PROCESS_CHILD_H

#include "isolation.h"

#include <sys/types.h>

struct hardening;

struct child_context {
    iso_function *const *functions;
    size_t function_count;
    pid_t parent;
    bool main_thread; /* forked by the parent's main thread */
    int request_read; /* -1: no requests, one call and out */
    int reply_write;
};

/* Exit statuses of a child that could not do its part; anything else is the foreign code's. */
enum {
    CHILD_EXIT_DONE = 0,
    CHILD_EXIT_SETUP = 125,
    CHILD_EXIT_ANSWER = 126, /* the function's output is not memory, so it cannot be sent */
};

/*
 * Makes a fresh copy of the parent's process fit to run foreign code: dies with its parent, has no
 * signal, mask or exit handler of the parent's, its own process group, no core dump, no privileges
 * to gain, and a death note to write. Exits with CHILD_EXIT_SETUP when the system refuses any of
 * it.
 *
 * What is left of the thread that forked, and is the parent's: exit() still runs its destructors of
 * thread_local objects, which come before all exit handlers, and pthread_exit() those and the
 * destructors of its thread-specific data.
 */
void child_prepare(const struct child_context *context);

/*
 * Then takes away from it what hardening.h says; the pipes are elsewhere afterwards. Exits with
 * CHILD_EXIT_SETUP when the system refuses any of it, and before that tells the parent, if it is to
 * report.
 */
void child_harden(struct child_context *context, struct hardening *hardening, bool report);

/* Answers requests until the parent closes its end. */
_Noreturn void child_serve(const struct child_context *context);

/* Runs one function and sends its answer. */
_Noreturn void child_run_once(const struct child_context *context,
                              const struct iso_request *request, uint32_t call);

/* Sends back as many bytes as came, and knows no functions: the floor of what pipes cost. */
_Noreturn void child_echo(const struct child_context *context);

#endif
