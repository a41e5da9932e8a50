/*
 * The timed loop, written once. A mechanism instantiates it with its own call and release, which
 * the compiler inlines, so that the loop adds a counter and a test and nothing else.
 *
 * The clock is read twice, around the whole batch. One call is made before the first reading: its
 * result is released inside the timed region and the last call's is not, so that the batch holds
 * exactly `loops` calls and `loops` releases, and the caller can check the last result.
 */
#ifndef MEASURE_TIMED_LOOP_H
#define MEASURE_TIMED_LOOP_H

#include "clock.h"

#include "isolation.h"

static inline __attribute__((always_inline)) enum iso_status iso_timed_loop(
    enum iso_status (*call)(struct iso_sandbox *, const struct iso_request *, struct iso_reply *),
    void (*release)(struct iso_sandbox *, struct iso_bytes *), struct iso_sandbox *sandbox,
    const struct iso_request *request, struct iso_batch *batch)
{
    /* Here and aligned, so that where the caller's batch happens to lie is not measured: a result
     * that straddles two cache lines costs the baseline's empty call half as much again. */
    _Alignas(64) struct iso_reply reply = {0};
    enum iso_status status = call(sandbox, request, &reply);
    uint64_t begin = iso_now_ns();
    for (uint64_t i = batch->loops; i != 0 && __builtin_expect(status == ISO_OK, 1); i--) {
        release(sandbox, &reply.output);
        status = call(sandbox, request, &reply);
    }
    batch->elapsed_ns = iso_now_ns() - begin;
    batch->last = reply;
    return status;
}

#endif
