#include "violations.h"

#include "clock.h"

enum iso_status iso_timed_violations(const struct iso_mechanism *mechanism,
                                     struct iso_sandbox *sandbox, const struct iso_request *request,
                                     struct iso_batch *batch)
{
    enum iso_status status = mechanism->call(sandbox, request, &batch->last);
    uint64_t begin = iso_now_ns();
    for (uint64_t i = batch->loops; i != 0 && status == ISO_VIOLATION; i--) {
        status = mechanism->call(sandbox, request, &batch->last);
    }
    batch->elapsed_ns = iso_now_ns() - begin;
    return status;
}
