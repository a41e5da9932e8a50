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

static inline __attribute__((always_inline)) enum iso_status
iso_timed_loop(enum iso_status (*call)(struct iso_sandbox *, const struct iso_request *,
                                       struct iso_reply *),
               void (*release)(struct iso_sandbox *, struct iso_bytes *),
               struct iso_sandbox *sandbox, const struct iso_request *request,
               struct iso_batch *batch)
{
    batch->elapsed_ns = 0;
    enum iso_status status = call(sandbox, request, &batch->last);
    uint64_t begin = iso_now_ns();
    for (uint64_t i = batch->loops; i != 0 && __builtin_expect(status == ISO_OK, 1); i--) {
        release(sandbox, &batch->last.output);
        status = call(sandbox, request, &batch->last);
    }
    batch->elapsed_ns = iso_now_ns() - begin;
    return status;
}

#endif
