/*
 * Sandcrust's two modes. `iso_pipe`: one persistent forked child serves all calls through two
 * pipes; an empty call is a write and a read on either side, and a time limit costs the caller one
 * wait more. `iso_fork`: a child is forked for each call, has the arguments by birth, and answers
 * through a pipe.
 */
#include "exchange.h"
#include "hardening.h"
#include "isolation.h"
#include "spawn.h"

#include "../measure/timed_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct iso_sandbox {
    struct child child;
    struct exchange exchange;
    bool one_shot;
    bool respawn;
    bool dead;
    struct hardening *hardening; /* NULL: not hardened */
    int cpu;
    size_t function_count;
    iso_function *functions[];
};

/* ---- opening and closing ---- */

static enum iso_status start(struct iso_sandbox *sandbox, const struct iso_request *request,
                             struct iso_fault *fault)
{
    struct child_life life = {
        .functions = sandbox->functions,
        .function_count = sandbox->function_count,
        .cpu = sandbox->cpu,
        .request = request,
        .call = sandbox->exchange.call,
        .hardening = sandbox->hardening,
        .deadline_ns = sandbox->exchange.deadline_ns, /* of an opening, 0 */
    };
    return spawn_child(&sandbox->child, &life, fault);
}

static void process_close(struct iso_sandbox *sandbox)
{
    if (sandbox != NULL) {
        end_child_for_good(&sandbox->child);
        exchange_drop(&sandbox->exchange);
        hardening_close(sandbox->hardening);
        free(sandbox);
    }
}

/* A child of one call has no way to say what the system refused it: one that serves nothing says it
 * when the sandbox is opened. */
static enum iso_status try_hardening(struct iso_sandbox *sandbox, struct iso_fault *fault)
{
    struct child child = {0};
    struct child_life life = {.cpu = sandbox->cpu, .hardening = sandbox->hardening};
    enum iso_status status = spawn_child(&child, &life, fault);
    end_child_for_good(&child);
    return status;
}

static enum iso_status process_open(const struct iso_options *options, bool one_shot,
                                    struct iso_sandbox **result, struct iso_fault *fault)
{
    *fault = (struct iso_fault){.exit_code = -1};
    *result = NULL;
    size_t table = options->function_count * sizeof(options->functions[0]);
    struct iso_sandbox *sandbox = calloc(1, sizeof(*sandbox) + table);
    if (sandbox == NULL) {
        fault->system_errno = errno;
        fault->what = "calloc";
        return ISO_SYSTEM_ERROR;
    }
    sandbox->one_shot = one_shot;
    sandbox->respawn = options->respawn;
    sandbox->cpu = options->sandbox_cpu;
    sandbox->exchange.max_output_length = options->max_output_length;
    sandbox->function_count = options->function_count;
    if (table != 0) {
        memcpy(sandbox->functions, options->functions, table);
    }
    enum iso_status status = ISO_OK;
    if (options->hardened) {
        status = hardening_open(options, &sandbox->hardening, fault);
    }
    if (status == ISO_OK && !one_shot) {
        status = start(sandbox, NULL, fault);
    } else if (status == ISO_OK && options->hardened) {
        status = try_hardening(sandbox, fault);
    }
    if (status != ISO_OK) {
        process_close(sandbox);
        return status;
    }
    *result = sandbox;
    return ISO_OK;
}

static enum iso_status pipe_open(const struct iso_options *options, struct iso_sandbox **sandbox,
                                 struct iso_fault *fault)
{
    return process_open(options, false, sandbox, fault);
}

static enum iso_status fork_open(const struct iso_options *options, struct iso_sandbox **sandbox,
                                 struct iso_fault *fault)
{
    return process_open(options, true, sandbox, fault);
}

/* ---- calling ---- */

static enum iso_status run(struct iso_sandbox *sandbox, struct iso_reply *reply)
{
    enum iso_status status = exchange_run(&sandbox->exchange, &sandbox->child, reply);
    /* The system's refusal in the middle of a call costs the child as well. */
    if ((status == ISO_VIOLATION || status == ISO_SYSTEM_ERROR) && !sandbox->respawn) {
        sandbox->dead = true;
    }
    if (sandbox->one_shot && status != ISO_INTERRUPTED) {
        end_child(&sandbox->child);
    }
    return status;
}

static void process_cancel(struct iso_sandbox *sandbox)
{
    /* No child: this process was forked while the call was under way, and has ended nothing. */
    if (sandbox->child.pid != 0 && !sandbox->respawn) {
        sandbox->dead = true;
    }
    end_child(&sandbox->child);
    exchange_drop(&sandbox->exchange);
}

static enum iso_status process_call(struct iso_sandbox *sandbox, const struct iso_request *request,
                                    struct iso_reply *reply)
{
    reply->output = (struct iso_bytes){0};
    if (request->function >= sandbox->function_count) {
        return ISO_BAD_ARGUMENT;
    }
    if (__builtin_expect(sandbox->exchange.pending, 0)) {
        process_cancel(sandbox); /* interrupted and not resumed, or under way at a fork() */
    }
    if (sandbox->dead) {
        return ISO_DEAD;
    }
    exchange_begin(&sandbox->exchange, request, !sandbox->one_shot);
    if (__builtin_expect(sandbox->child.pid == 0, 0)) {
        enum iso_status status = start(sandbox, sandbox->one_shot ? request : NULL, &reply->fault);
        if (status != ISO_OK) {
            sandbox->dead = status == ISO_VIOLATION && !sandbox->respawn;
            exchange_drop(&sandbox->exchange);
            return status;
        }
    }
    return run(sandbox, reply);
}

static enum iso_status process_resume(struct iso_sandbox *sandbox, struct iso_reply *reply)
{
    /* No child: the signal's handler forked, and this is the new process. */
    if (!sandbox->exchange.pending || sandbox->child.pid == 0) {
        exchange_drop(&sandbox->exchange);
        reply->output = (struct iso_bytes){0};
        return ISO_BAD_ARGUMENT;
    }
    return run(sandbox, reply);
}

static void process_release(struct iso_sandbox *sandbox, struct iso_bytes *output)
{
    (void)sandbox;
    free(output->data);
    *output = (struct iso_bytes){0};
}

static enum iso_status process_loop(struct iso_sandbox *sandbox, const struct iso_request *request,
                                    struct iso_batch *batch)
{
    return iso_timed_loop(process_call, process_release, sandbox, request, batch);
}

static int process_id(const struct iso_sandbox *sandbox)
{
    return (int)sandbox->child.pid;
}

const struct iso_mechanism iso_pipe = {
    .name = "pipe",
    .open = pipe_open,
    .call = process_call,
    .resume = process_resume,
    .cancel = process_cancel,
    .release = process_release,
    .loop = process_loop,
    .close = process_close,
    .process = process_id,
};

const struct iso_mechanism iso_fork = {
    .name = "fork",
    .open = fork_open,
    .call = process_call,
    .resume = process_resume,
    .cancel = process_cancel,
    .release = process_release,
    .loop = process_loop,
    .close = process_close,
    .process = process_id,
};
