/*
 * One request and its answer, from the parent's side, as a state that a signal can interrupt and
 * that goes on afterwards.
 *
 * Everything read here was written by a child that may be hostile: each length is checked against a
 * bound before it is used, and whatever does not fit ends the child.
 */
#ifndef PROCESS_EXCHANGE_H
#define PROCESS_EXCHANGE_H

#include "isolation.h"
#include "spawn.h"
#include "wire.h"

struct exchange {
    bool pending;
    uint32_t call; /* number of this call, or of the last */
    size_t max_output_length;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */

    struct wire_header request;
    const uint8_t *input;
    size_t sent, to_send; /* bytes, header included */

    /* The answer's header and what came with it; and the rest of a note that this ends with. */
    uint8_t chunk[WIRE_CHUNK + WIRE_NOTE_FRAME];
    size_t chunk_length;
    struct iso_bytes output; /* length is what was announced */
    size_t received;         /* bytes of output */
    uint32_t code;           /* the function's, once the header has been seen */
    bool header_seen;
};

/* Starts an exchange: the next exchange_run() sends the request, unless `send` is false because
 * the child has had it from birth. */
void exchange_begin(struct exchange *exchange, const struct iso_request *request, bool send);

/*
 * Runs until the answer is there, the child is at fault or a signal handler has run
 * (ISO_INTERRUPTED; call again). After ISO_VIOLATION the child is gone.
 */
enum iso_status exchange_run(struct exchange *exchange, struct child *child,
                             struct iso_reply *reply);

/* Forgets the exchange and frees what it holds. */
void exchange_drop(struct exchange *exchange);

#endif
