/* The timed loop of calls that end in a violation, at the first of which a mechanism's own stops.
 */
#ifndef MEASURE_VIOLATIONS_H
#define MEASURE_VIOLATIONS_H

#include "isolation.h"

#pragma GCC visibility push(default)
/*
 * Makes `batch->loops` calls, each of which has to be a violation, and times them together: up to
 * the error in the caller's hands, whatever the mechanism discards or starts anew included. One
 * call is made before, as in iso_timed_loop(). Returns ISO_VIOLATION with the last one's fault in
 * batch->last; or the status of the first call that was none, at which it ends.
 */
enum iso_status iso_timed_violations(const struct iso_mechanism *mechanism,
                                     struct iso_sandbox *sandbox, const struct iso_request *request,
                                     struct iso_batch *batch);
#pragma GCC visibility pop

#endif
