/* No wall: the foreign function is called where it lies. The baseline of every comparison. */
#include "isolation.h"

#include "../measure/timed_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct iso_sandbox {
    size_t function_count;
    iso_function *functions[];
};

static enum iso_status direct_open(const struct iso_options *options, struct iso_sandbox **sandbox,
                                   struct iso_fault *fault)
{
    *fault = (struct iso_fault){0};
    size_t table = options->function_count * sizeof(options->functions[0]);
    *sandbox = malloc(sizeof(**sandbox) + table);
    if (*sandbox == NULL) {
        *fault = (struct iso_fault){.system_errno = errno, .what = "malloc"};
        return ISO_SYSTEM_ERROR;
    }
    (*sandbox)->function_count = options->function_count;
    if (table != 0) {
        memcpy((*sandbox)->functions, options->functions, table);
    }
    return ISO_OK;
}

static inline void direct_release(struct iso_sandbox *sandbox, struct iso_bytes *output)
{
    (void)sandbox;
    if (output->data != NULL) {
        free(output->data);
    }
    *output = (struct iso_bytes){0};
}

static inline enum iso_status
direct_call(struct iso_sandbox *sandbox, const struct iso_request *request, struct iso_reply *reply)
{
    reply->output = (struct iso_bytes){0};
    if (request->function >= sandbox->function_count) {
        return ISO_BAD_ARGUMENT;
    }
    /* The pointer comes from memory and leads into another library: nothing here can be inlined. */
    int code = sandbox->functions[request->function](request->input, request->input_length,
                                                     &reply->output);
    if (__builtin_expect(code != 0, 0)) {
        direct_release(sandbox, &reply->output); /* a function that broke the contract leaks less */
        reply->foreign_code = code;
        return ISO_FOREIGN_ERROR;
    }
    return ISO_OK;
}

static enum iso_status direct_loop(struct iso_sandbox *sandbox, const struct iso_request *request,
                                   struct iso_batch *batch)
{
    return iso_timed_loop(direct_call, direct_release, sandbox, request, batch);
}

static void direct_close(struct iso_sandbox *sandbox)
{
    free(sandbox);
}

const struct iso_mechanism iso_direct = {
    .name = "direct",
    .open = direct_open,
    .call = direct_call,
    .release = direct_release,
    .loop = direct_loop,
    .close = direct_close,
};
