/*
 * What crosses the pipes. Both ends run on one machine, so integers are in its byte order.
 *
 *   request   u32 index of the function   u32 call number   u64 length   the input's bytes
 *   answer    u32 code of the function    u32 call number   u64 length   the output's bytes
 *
 * The call number comes back as it went: an answer left over from an earlier call does not pass
 * for the answer of this one. A length with WIRE_NOTE set announces a death note instead of output;
 * its call number is the last call's, which may be over.
 */
#ifndef PROCESS_WIRE_H
#define PROCESS_WIRE_H

#include <stdint.h>

enum {
    WIRE_HEADER = 16,  /* bytes */
    WIRE_CHUNK = 4096, /* header and what comes with it in one read; a pipe's page */
};

#define WIRE_NOTE (UINT64_C(1) << 63)

struct wire_header {
    uint32_t word; /* function index, or the function's code as two's complement */
    uint32_t call; /* call number */
    uint64_t length;
};

/* The last thing a dying child says: where the signal hit it. */
struct wire_note {
    int32_t signal;
    uint16_t access; /* enum iso_access */
    uint16_t address_known;
    uint64_t address; /* of SIGSYS: the number of the system call that was refused */
    uint64_t instruction;
};

/* The first thing that a hardened child says that serves requests, and before it has seen any. */
struct wire_setup {
    uint32_t step; /* enum harden_step, that the system refused */
    int32_t error; /* its errno */
};

enum { WIRE_NOTE_FRAME = WIRE_HEADER + sizeof(struct wire_note) };

_Static_assert(sizeof(struct wire_header) == WIRE_HEADER, "no padding on the wire");
_Static_assert(sizeof(struct wire_note) == 24, "no padding on the wire");
_Static_assert(sizeof(struct wire_setup) == 8, "no padding on the wire");

#endif
