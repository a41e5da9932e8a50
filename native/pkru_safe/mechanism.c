/*
 * PKRU-Safe behind the contract of isolation.h: the function is called where it lies, on the
 * caller's stack and with the caller's heap, while the trusted heap is closed to it. A violation
 * ends the process.
 */
#include "gate.h"
#include "trusted.h"

#include "../measure/timed_loop.h"

#include <errno.h>
#include <stdlib.h>

/* Read-only from the moment that it is open: or the called function could have the next one called
 * with the heap open. */
struct iso_sandbox {
    pkru_safe_gate *gate;
    int number; /* of the gate */
    size_t function_count;
    iso_function *functions[];
};

static pkru_safe_gate *gate_of(int number)
{
    union { /* POSIX's way from an object pointer to a function pointer */
        const char *object;
        pkru_safe_gate *function;
    } code = {.object = pkru_safe_begin + (size_t)number * PKRU_SAFE_STRIDE};
    return code.function;
}

static size_t size_of_sandbox(size_t function_count)
{
    return sizeof(struct iso_sandbox) + function_count * sizeof(iso_function *);
}

static bool fill(struct iso_sandbox *sandbox, const struct iso_options *options,
                 struct iso_fault *fault)
{
    int number = trusted_claim_gate();
    if (number < 0) {
        *fault = (struct iso_fault){.exit_code = -1,
                                    .system_errno = EAGAIN,
                                    .what = "32 sandboxes of PKRU-Safe are open: close one first"};
        return false;
    }
    uint32_t before = trusted_borrow();
    sandbox->gate = gate_of(number);
    sandbox->number = number;
    sandbox->function_count = options->function_count;
    for (size_t i = 0; i < options->function_count; i++) {
        sandbox->functions[i] = options->functions[i];
    }
    trusted_return(before);
    if (!trusted_seal(sandbox, size_of_sandbox(options->function_count), fault)) {
        trusted_return_gate(number);
        return false;
    }
    return true;
}

static enum iso_status pkru_safe_open(const struct iso_options *options,
                                      struct iso_sandbox **result, struct iso_fault *fault)
{
    *result = NULL;
    *fault = (struct iso_fault){.exit_code = -1};
    size_t size = size_of_sandbox(options->function_count);
    struct iso_sandbox *sandbox = trusted_map(size, fault);
    if (sandbox == NULL) {
        return ISO_SYSTEM_ERROR;
    }
    if (!fill(sandbox, options, fault)) {
        trusted_unmap(sandbox, size);
        return ISO_SYSTEM_ERROR;
    }
    *result = sandbox;
    return ISO_OK;
}

static void pkru_safe_close(struct iso_sandbox *sandbox)
{
    if (sandbox != NULL) {
        trusted_return_gate(sandbox->number);
        trusted_unmap(sandbox, size_of_sandbox(sandbox->function_count));
    }
}

static inline void pkru_safe_release(struct iso_sandbox *sandbox, struct iso_bytes *output)
{
    (void)sandbox;
    if (output->data != NULL) {
        free(output->data);
    }
    *output = (struct iso_bytes){0};
}

/* A thread that began before the heap was opened: it is lent the heap, which the gate closes, and
 * has afterwards what it had before. The called function cannot write where that is kept, nor say
 * where that is. */
static __attribute__((cold, noinline)) int64_t call_lent(const struct iso_sandbox *sandbox,
                                                         const struct iso_request *request,
                                                         struct iso_reply *reply)
{
    uint32_t before = trusted_borrow();
    pkru_safe_kept.lent[sandbox->number] = before;
    struct pkru_safe_result result =
        sandbox->gate(request->input, request->input_length, &reply->output, 0,
                      sandbox->functions[request->function]);
    before = pkru_safe_kept.lent[result.number];
    pkru_safe_kept.lent[result.number] = UINT32_MAX;
    trusted_return(before);
    return result.value;
}

static inline enum iso_status pkru_safe_call(struct iso_sandbox *sandbox,
                                             const struct iso_request *request,
                                             struct iso_reply *reply)
{
    reply->output = (struct iso_bytes){0};
    if (__builtin_expect(request->function >= sandbox->function_count, 0)) {
        return ISO_BAD_ARGUMENT;
    }
    int64_t result = sandbox
                         ->gate(request->input, request->input_length, &reply->output, 0,
                                sandbox->functions[request->function])
                         .value;
    if (__builtin_expect(result != 0, 0)) {
        if (result == PKRU_SAFE_CLOSED) {
            result = call_lent(sandbox, request, reply);
        }
        if (result != 0) {
            pkru_safe_release(sandbox, &reply->output); /* as direct.c: leaks less */
            reply->foreign_code = (int)result;
            return ISO_FOREIGN_ERROR;
        }
    }
    return ISO_OK;
}

static enum iso_status pkru_safe_loop(struct iso_sandbox *sandbox,
                                      const struct iso_request *request, struct iso_batch *batch)
{
    return iso_timed_loop(pkru_safe_call, pkru_safe_release, sandbox, request, batch);
}

const struct iso_mechanism iso_pkru_safe = {
    .name = "pkru-safe",
    .open = pkru_safe_open,
    .call = pkru_safe_call,
    .release = pkru_safe_release,
    .loop = pkru_safe_loop,
    .close = pkru_safe_close,
};
