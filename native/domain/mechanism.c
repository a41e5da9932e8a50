/* Domains behind the contract of isolation.h: the input is read where it lies, the result is copied
 * out (iso_domain) or stays where it is (iso_domain_view); or both are copied by way of a codec
 * (iso_domain_serialised). */
#include "domain.h"
#include "isolation.h"
#include "sandbox.h"
#include "serialised.h"
#include "substitutes.h"

#include "../measure/timed_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static enum iso_status copy_open(const struct iso_options *options, struct iso_sandbox **sandbox,
                                 struct iso_fault *fault)
{
    return sandbox_open(options, COPY, sandbox, fault);
}

static enum iso_status view_open(const struct iso_options *options, struct iso_sandbox **sandbox,
                                 struct iso_fault *fault)
{
    return sandbox_open(options, VIEW, sandbox, fault);
}

static enum iso_status serialised_open(const struct iso_options *options,
                                       struct iso_sandbox **sandbox, struct iso_fault *fault)
{
    return sandbox_open(options, SERIALISED, sandbox, fault);
}

/* ---- what goes wrong ---- */

/* Binding discards what a call has left that never returned. */
static __attribute__((cold)) enum iso_status bind(struct iso_sandbox *sandbox,
                                                  struct iso_fault *fault)
{
    enum iso_status status = domain_bind(sandbox->domain, fault);
    if (sandbox->discards != sandbox->domain->discards) {
        views_make_stale(&sandbox->views);
        sandbox->discards = sandbox->domain->discards;
    }
    if (status == ISO_OK && sandbox->delivery == VIEW && !views_make_room(&sandbox->views)) {
        domain_unbind(sandbox->domain); /* so that the next call tries again */
        *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = "realloc"};
        return ISO_SYSTEM_ERROR;
    }
    return status;
}

static __attribute__((cold)) enum iso_status discard(struct iso_sandbox *sandbox,
                                                     struct iso_fault *fault)
{
    views_make_stale(&sandbox->views);
    sandbox->dead = sandbox->dead || !sandbox->respawn;
    if (sandbox->dead || (sandbox->delivery == VIEW && !views_have_room(&sandbox->views))) {
        domain_unbind(sandbox->domain); /* so that the next call looks */
    }
    if (!domain_discard(sandbox->domain, sandbox->views.count != 0)) {
        *fault = (struct iso_fault){
            .exit_code = -1, .system_errno = errno, .what = "discarding a domain's memory"};
        sandbox->domain->abandoned = true; /* the next call tries again */
        domain_unbind(sandbox->domain);
        return ISO_SYSTEM_ERROR;
    }
    sandbox->discards = sandbox->domain->discards;
    return ISO_VIOLATION;
}

static __attribute__((cold, noinline)) enum iso_status
not_returned(struct iso_sandbox *sandbox, int64_t result, struct iso_reply *reply)
{
    if (result != GATE_REWOUND) {
        reply->foreign_code = (int)result;
        return ISO_FOREIGN_ERROR;
    }
    reply->fault = sandbox->domain->thread->fault;
    enum iso_status status = discard(sandbox, &reply->fault);
    return reply->fault.violation == ISO_VIOLATION_NONE ? ISO_SYSTEM_ERROR : status;
}

static __attribute__((cold, noinline)) enum iso_status
malformed(struct iso_sandbox *sandbox, const char *rule, struct iso_reply *reply)
{
    reply->fault =
        (struct iso_fault){.violation = ISO_VIOLATION_PROTOCOL, .exit_code = -1, .what = rule};
    return discard(sandbox, &reply->fault);
}

/* ---- calling ---- */

/* A second result to free before the next call frees the first: makes a call for that one. */
static __attribute__((cold, noinline)) void free_retired(struct iso_sandbox *sandbox)
{
    struct domain *domain = sandbox->domain;
    struct iso_fault ignored;
    if (!domain_is_ready(domain) && bind(sandbox, &ignored) != ISO_OK) {
        return; /* it stays allocated until the next discard */
    }
    domain->core->retired = domain->retired;
    domain->retired = NULL;
    if (domain->core->retired != NULL &&
        domain_enter(domain, NULL, 0, domain->core, 0, domain_invoke) != 0) {
        discard(sandbox, &ignored);
    }
}

/* The next call frees it. */
static inline __attribute__((always_inline)) void retire(struct iso_sandbox *sandbox, void *block)
{
    if (__builtin_expect(sandbox->domain->retired != NULL, 0)) {
        uint64_t before = sandbox->domain->discards;
        free_retired(sandbox);
        if (sandbox->domain->discards != before) {
            return; /* the block went with the other */
        }
    }
    sandbox->domain->retired = block;
}

static __attribute__((noinline)) void release_any(struct iso_sandbox *sandbox, uint8_t *data)
{
    if (views_release(&sandbox->views, data)) {
        retire(sandbox, data);
    }
}

static inline __attribute__((always_inline)) void view_release(struct iso_sandbox *sandbox,
                                                               struct iso_bytes *output)
{
    uint8_t *data = output->data;
    *output = (struct iso_bytes){0};
    if (data == NULL) {
        return;
    }
    if (__builtin_expect(data == sandbox->views.latest && sandbox->views.count == 0, 1)) {
        sandbox->views.latest = NULL;
        retire(sandbox, data);
        return;
    }
    release_any(sandbox, data);
}

static inline __attribute__((always_inline)) void copy_release(struct iso_sandbox *sandbox,
                                                               struct iso_bytes *output)
{
    (void)sandbox;
    if (output->data != NULL) {
        free(output->data);
    }
    *output = (struct iso_bytes){0};
}

static inline __attribute__((always_inline)) enum iso_status no_memory(struct iso_reply *reply,
                                                                       const char *what)
{
    reply->fault = (struct iso_fault){.exit_code = -1, .system_errno = ENOMEM, .what = what};
    return ISO_SYSTEM_ERROR;
}

/* A result that a codec laid out. The block that it lies in is retired. */
static enum iso_status take_serialised(struct iso_sandbox *sandbox, uint8_t *data, size_t length,
                                       struct iso_reply *reply)
{
    enum { HEAD_MAX = 32 }; /* bytes that a codec puts before a byte vector's content, at most */
    if (length > HEAD_MAX && length - HEAD_MAX > sandbox->max_output_length) {
        return malformed(sandbox, "the result is longer than allowed", reply);
    }
    enum codec_status status = deserialise_output(sandbox->codec, data, length, &reply->output);
    if (status == CODEC_OK && reply->output.length <= sandbox->max_output_length) {
        retire(sandbox, data);
        return ISO_OK;
    }
    free(reply->output.data);
    reply->output = (struct iso_bytes){0};
    if (status == CODEC_NO_MEMORY) {
        retire(sandbox, data);
        return no_memory(reply, "malloc");
    }
    return malformed(sandbox,
                     status == CODEC_OK ? "the result is longer than allowed"
                                        : "the result is not what its codec writes",
                     reply);
}

static inline __attribute__((always_inline)) enum iso_status
take_result(struct iso_sandbox *sandbox, struct iso_reply *reply, enum delivery delivery)
{
    struct domain *domain = sandbox->domain;
    /* Read once: what is checked is what is used. */
    const volatile struct iso_bytes *output = &domain->core->output;
    uint8_t *data = output->data;
    size_t length = output->length;
    uint8_t *first = region_heap(&domain->region) + HEADER;
    uintptr_t offset = (uintptr_t)data - (uintptr_t)first;
    size_t writable = (size_t)(domain->region.heap_end - first);
    if (__builtin_expect(offset >= writable || length > writable - offset, 0)) {
        return malformed(sandbox, "the result does not lie in the domain's heap", reply);
    }
    /* Otherwise the next call, which frees it, would be told of this one's fault. */
    if (__builtin_expect(!heap_may_be_block(data, offset), 0)) {
        return malformed(sandbox, "the result is no block of the domain's heap", reply);
    }
    if (delivery == SERIALISED) {
        return take_serialised(sandbox, data, length, reply);
    }
    if (__builtin_expect(length > sandbox->max_output_length, 0)) {
        return malformed(sandbox, "the result is longer than allowed", reply);
    }
    if (__builtin_expect(length == 0, 0)) {
        retire(sandbox, data);
        return ISO_OK;
    }
    if (delivery == VIEW) {
        if (__builtin_expect(sandbox->views.latest != NULL, 0) &&
            !views_set_latest_aside(&sandbox->views)) {
            retire(sandbox, data);
            return no_memory(reply, "realloc");
        }
        sandbox->views.latest = data;
        reply->output = (struct iso_bytes){data, length};
        return ISO_OK;
    }
    uint8_t *copy = malloc(length);
    if (copy != NULL) {
        memcpy(copy, data, length);
        reply->output = (struct iso_bytes){copy, length};
    }
    retire(sandbox, data);
    return copy != NULL ? ISO_OK : no_memory(reply, "malloc");
}

/* What the next call frees first. */
static inline void *take_retired(struct domain *domain)
{
    void *retired = domain->retired;
    domain->retired = NULL;
    return retired;
}

static inline __attribute__((always_inline)) enum iso_status
call_ready(struct iso_sandbox *sandbox, const struct iso_request *request, struct iso_reply *reply,
           enum delivery delivery)
{
    struct domain *domain = sandbox->domain;
    struct core *core = domain->core;
    void *function = sandbox->functions[request->function];
    int64_t result;
    core->output = (struct iso_bytes){0};
    if (delivery == SERIALISED) {
        size_t length = 0;
        const uint8_t *arguments = NULL;
        if (request->input_length != 0) {
            arguments = serialise_input(domain, sandbox->codec, request, &length, &reply->fault);
            if (arguments == NULL) {
                return ISO_SYSTEM_ERROR;
            }
        }
        core->codec = sandbox->codec;
        core->retired = take_retired(domain);
        result = domain_enter(domain, arguments, length, core, (uintptr_t)function,
                              domain_invoke_serialised);
    } else if (domain->retired == NULL) {
        result = domain_enter(domain, request->input, request->input_length, core, 0, function);
    } else {
        core->retired = take_retired(domain);
        result = domain_enter(domain, request->input, request->input_length, core,
                              (uintptr_t)function, domain_invoke);
    }
    if (__builtin_expect(result != 0, 0)) {
        return not_returned(sandbox, result, reply);
    }
    if (__builtin_expect(((uintptr_t)core->output.data | core->output.length) == 0, 1)) {
        return ISO_OK;
    }
    return take_result(sandbox, reply, delivery);
}

/* The first call of a thread, calls with a time limit, and what cannot be done. */
static __attribute__((noinline)) enum iso_status call_prepared(struct iso_sandbox *sandbox,
                                                               const struct iso_request *request,
                                                               struct iso_reply *reply,
                                                               enum delivery delivery)
{
    if (sandbox->dead) {
        return ISO_DEAD;
    }
    struct domain *domain = sandbox->domain;
    if (!domain_is_ready(domain)) {
        enum iso_status status = bind(sandbox, &reply->fault);
        if (status != ISO_OK) {
            return status;
        }
    }
    if (request->timeout_ns == 0) {
        return call_ready(sandbox, request, reply, delivery);
    }
    struct thread *thread = domain->thread; /* a discard may unbind */
    if (!thread_set_deadline(thread, request->timeout_ns, &reply->fault)) {
        return ISO_SYSTEM_ERROR;
    }
    enum iso_status status = call_ready(sandbox, request, reply, delivery);
    struct iso_fault ignored; /* the timer may run out: outside of a call nobody listens */
    thread_set_deadline(thread, 0, &ignored);
    return status;
}

static inline __attribute__((always_inline)) enum iso_status call(struct iso_sandbox *sandbox,
                                                                  const struct iso_request *request,
                                                                  struct iso_reply *reply,
                                                                  enum delivery delivery)
{
    reply->output = (struct iso_bytes){0};
    if (__builtin_expect(request->function >= sandbox->function_count, 0)) {
        return ISO_BAD_ARGUMENT;
    }
    if (__builtin_expect(!domain_is_ready(sandbox->domain) || request->timeout_ns != 0, 0)) {
        return call_prepared(sandbox, request, reply, delivery);
    }
    return call_ready(sandbox, request, reply, delivery);
}

/* Inlined into the timed loops, and called by everybody else. */
static inline __attribute__((always_inline)) enum iso_status
copy_call(struct iso_sandbox *sandbox, const struct iso_request *request, struct iso_reply *reply)
{
    return call(sandbox, request, reply, COPY);
}

static inline __attribute__((always_inline)) enum iso_status
view_call(struct iso_sandbox *sandbox, const struct iso_request *request, struct iso_reply *reply)
{
    return call(sandbox, request, reply, VIEW);
}

static inline __attribute__((always_inline)) enum iso_status
serialised_call(struct iso_sandbox *sandbox, const struct iso_request *request,
                struct iso_reply *reply)
{
    return call(sandbox, request, reply, SERIALISED);
}

static enum iso_status copy_loop(struct iso_sandbox *sandbox, const struct iso_request *request,
                                 struct iso_batch *batch)
{
    return iso_timed_loop(copy_call, copy_release, sandbox, request, batch);
}

static enum iso_status view_loop(struct iso_sandbox *sandbox, const struct iso_request *request,
                                 struct iso_batch *batch)
{
    return iso_timed_loop(view_call, view_release, sandbox, request, batch);
}

static enum iso_status serialised_loop(struct iso_sandbox *sandbox,
                                       const struct iso_request *request, struct iso_batch *batch)
{
    return iso_timed_loop(serialised_call, copy_release, sandbox, request, batch);
}

void iso_data_grant(struct iso_sandbox *sandbox, const struct iso_data *data,
                    enum iso_rights rights)
{
    static const enum key_rights of[] = {[ISO_RIGHTS_NONE] = KEY_NOTHING,
                                         [ISO_RIGHTS_READ] = KEY_READ,
                                         [ISO_RIGHTS_WRITE] = KEY_WRITE};
    domains_acquire(); /* another thread may be closing other data, which takes rights back */
    domain_grant(sandbox->domain, data->key, of[rights]);
    domains_release();
}

const struct iso_mechanism iso_domain = {
    .name = "domain",
    .loads_libraries = true,
    .open = copy_open,
    .call = copy_call,
    .release = copy_release,
    .loop = copy_loop,
    .close = sandbox_close,
    .address = sandbox_address,
};

const struct iso_mechanism iso_domain_view = {
    .name = "domain-view",
    .loads_libraries = true,
    .open = view_open,
    .call = view_call,
    .release = view_release,
    .loop = view_loop,
    .close = sandbox_close,
    .address = sandbox_address,
};

const struct iso_mechanism iso_domain_serialised = {
    .name = "domain-serialised",
    .loads_libraries = true,
    .open = serialised_open,
    .call = serialised_call,
    .release = copy_release,
    .loop = serialised_loop,
    .close = sandbox_close,
    .address = sandbox_address,
};
