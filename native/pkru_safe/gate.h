/*
 * The call gates of PKRU-Safe: they close the trusted heap for the time of a call. Assembly and C
 * share this file.
 *
 * Each open sandbox has a gate of its own, whose instructions find what they check against at a
 * fixed distance from themselves: neither registers nor the stack say where it is.
 */
#ifndef PKRU_SAFE_GATE_H
#define PKRU_SAFE_GATE_H

#define PKRU_SAFE_GATES 32
#define PKRU_SAFE_STRIDE 256 /* bytes of code a gate */

#define PKRU_SAFE_OWNERS (2 * 4 * PKRU_SAFE_GATES) /* in struct pkru_safe_kept */

/* The value that a gate returns if the thread has no rights to the trusted heap: nothing was
 * called. A function's own result is 32 bits wide, zero-extended. */
#define PKRU_SAFE_CLOSED (-1)

#ifndef __ASSEMBLER__
#include "isolation.h"

#include <stddef.h>

/* Under the trusted key while there is one: no function that a gate calls can read or write it.
 * Rights that nobody holds are those to nothing, which do no harm. */
struct pkru_safe_kept {
    uint32_t outside[PKRU_SAFE_GATES]; /* rights before the call, and after it */
    uint32_t lent[PKRU_SAFE_GATES];    /* those of a thread that was lent the heap for the call */
    uint64_t owners[PKRU_SAFE_GATES];  /* FS base of the thread that was in the gate last */
    uint32_t holders;                  /* heaps and sandboxes that are open */
    uint32_t gates_taken;              /* a bit each */
    uint8_t padding[4096 - (4 * PKRU_SAFE_GATES + 2) * sizeof(uint32_t)];
};
extern struct pkru_safe_kept pkru_safe_kept;
_Static_assert(offsetof(struct pkru_safe_kept, owners) == PKRU_SAFE_OWNERS, "gate.S writes there");

/* Rights during the call; those to nothing where there is none. */
extern uint32_t pkru_safe_inside[PKRU_SAFE_GATES];

/* Read-only, but for the moment in which the key is taken or given back: then no gate is open. */
struct pkru_safe_mask {
    uint32_t close; /* the two bits of the trusted key in PKRU; 0: there is none */
    uint32_t keep;  /* all others */
    uint8_t padding[4096 - 2 * sizeof(uint32_t)];
};
extern struct pkru_safe_mask pkru_safe_mask;

struct pkru_safe_result {
    int64_t value;   /* the function's, or PKRU_SAFE_CLOSED */
    uint64_t number; /* the gate's, unless that */
};

/* Calls function(input, input_length, output) with the trusted heap closed. `zero` is 0, where
 * RDPKRU and WRPKRU need one. */
typedef struct pkru_safe_result pkru_safe_gate(const uint8_t *input, size_t input_length,
                                               struct iso_bytes *output, uint64_t zero,
                                               iso_function *function);

/* Code of gate 0, and labels in it; gate N's lie N * PKRU_SAFE_STRIDE behind. */
extern const char pkru_safe_begin[];
extern const char pkru_safe_commit[]; /* the WRPKRU on the way in */
extern const char pkru_safe_return[]; /* the WRPKRU on the way out */
extern const char pkru_safe_end[];

#endif
#endif
