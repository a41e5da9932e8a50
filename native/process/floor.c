/*
 * The least that two pipes and two processes cost: as many bytes as an empty call sends go there
 * and come back, with bare write() and read() and nothing around them. It runs no function. A
 * reference row, not a wall: what iso_pipe costs above it is this project's doing.
 */
#include "isolation.h"
#include "spawn.h"
#include "wire.h"

#include "../measure/timed_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct iso_sandbox {
    struct child child;
    int cpu;
};

static void floor_close(struct iso_sandbox *sandbox)
{
    if (sandbox != NULL) {
        end_child_for_good(&sandbox->child);
        free(sandbox);
    }
}

static enum iso_status floor_start(struct iso_sandbox *sandbox, struct iso_fault *fault)
{
    struct child_life life = {.cpu = sandbox->cpu, .echo = true};
    return spawn_child(&sandbox->child, &life, fault);
}

static enum iso_status floor_open(const struct iso_options *options, struct iso_sandbox **result,
                                  struct iso_fault *fault)
{
    *fault = (struct iso_fault){.exit_code = -1};
    *result = NULL;
    struct iso_sandbox *sandbox = calloc(1, sizeof(*sandbox));
    if (sandbox == NULL) {
        fault->system_errno = errno;
        fault->what = "calloc";
        return ISO_SYSTEM_ERROR;
    }
    sandbox->cpu = options->sandbox_cpu;
    enum iso_status status = floor_start(sandbox, fault);
    if (status != ISO_OK) {
        floor_close(sandbox);
        return status;
    }
    *result = sandbox;
    return ISO_OK;
}

/* A pipe moves WIRE_HEADER bytes whole (at most PIPE_BUF), so there are no partial transfers. */
static inline enum iso_status floor_call(struct iso_sandbox *sandbox,
                                         const struct iso_request *request, struct iso_reply *reply)
{
    static const uint8_t nothing[WIRE_HEADER];
    uint8_t back[WIRE_HEADER];
    (void)request;
    reply->output = (struct iso_bytes){0};
    if (sandbox->child.pid == 0) {
        enum iso_status status = floor_start(sandbox, &reply->fault);
        if (status != ISO_OK) {
            return status;
        }
    }
    const char *what = "write";
    ssize_t moved = write(sandbox->child.request_write, nothing, sizeof(nothing));
    if (moved == (ssize_t)sizeof(nothing)) {
        what = "read";
        do {
            moved = read(sandbox->child.reply_read, back, sizeof(back));
        } while (moved < 0 && errno == EINTR);
    }
    if (moved == (ssize_t)sizeof(back)) {
        return ISO_OK;
    }
    reply->fault = (struct iso_fault){.exit_code = -1};
    if (moved < 0) {
        reply->fault.system_errno = errno;
        reply->fault.what = what;
        end_child(&sandbox->child);
        return ISO_SYSTEM_ERROR;
    }
    bury_child(&sandbox->child, &reply->fault);
    return ISO_VIOLATION;
}

static inline void floor_release(struct iso_sandbox *sandbox, struct iso_bytes *output)
{
    (void)sandbox;
    (void)output;
}

static enum iso_status floor_loop(struct iso_sandbox *sandbox, const struct iso_request *request,
                                  struct iso_batch *batch)
{
    return iso_timed_loop(floor_call, floor_release, sandbox, request, batch);
}

static int floor_process(const struct iso_sandbox *sandbox)
{
    return (int)sandbox->child.pid;
}

const struct iso_mechanism iso_floor = {
    .name = "floor",
    .open = floor_open,
    .call = floor_call,
    .release = floor_release,
    .loop = floor_loop,
    .close = floor_close,
    .process = floor_process,
};
