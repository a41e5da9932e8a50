/*
 * Instructions that change PKRU, in what a domain loads. Code that gets to one of them, with
 * registers of its choice, opens its own wall.
 *
 * They are WRPKRU, and XRSTOR, which loads PKRU where its mask says so. x86 code can be entered at
 * any byte, so that what counts is the bytes, wherever they lie in executable memory: within an
 * immediate, beside the code on its pages, across the border of two segments. What is searched is
 * the memory, not the file.
 *
 * Not among them: XRSTORS, which needs privilege, so that in a domain it is a violation.
 */
#ifndef DOMAIN_GADGETS_H
#define DOMAIN_GADGETS_H

#include "isolation.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gadget {
    const char *instruction; /* its name */
    const uint8_t *place;
};

/* One in a range of memory. False: there is none. */
bool gadget_find(const uint8_t *begin, const uint8_t *end, struct gadget *found);

/*
 * Whether there is none in all code of these objects, all of which can be read, and none of which
 * asks for an executable stack. False: *fault says what there is, or why it cannot be told; its
 * text is valid until this thread's next call.
 */
bool gadgets_are_absent(struct link_map *const *objects, size_t count, struct iso_fault *fault);

/*
 * Makes the WRPKRU of pkey_set a trap, in an instance of the C library that is not the process's,
 * or a WRPKRU again. *trapped says where it is a trap; NULL: nowhere. While nothing else is loaded
 * into the namespace: what called pkey_set would die of it. False: *fault.
 */
bool pkey_set_trap(void *c_library, bool trap, const uint8_t **trapped, struct iso_fault *fault);

#endif
