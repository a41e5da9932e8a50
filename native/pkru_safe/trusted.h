/*
 * The trusted heap: memory under one protection key, which all sandboxes of PKRU-Safe close.
 *
 * What a gate calls shares all other memory of the process and may write it. So nothing that
 * decides what is protected lies there: which key it is, is read-only (pkru_safe_mask); what
 * changes lies under the key itself (pkru_safe_kept); what says where a heap or a sandbox is
 * is read-only before anybody else knows of it. The lock lies elsewhere: who breaks it makes others
 * wait without end, or two threads that open or close at the same moment disturb each other.
 */
#ifndef PKRU_SAFE_TRUSTED_H
#define PKRU_SAFE_TRUSTED_H

#include "isolation.h"

/* Zeroed memory under the trusted key. The first takes the key, and the last that goes gives it
 * back. NULL: *fault says why. */
void *trusted_map(size_t length, struct iso_fault *fault);
void trusted_unmap(void *memory, size_t length);

/* From now on everybody can read such memory, and nobody write it. False: *fault says why. */
bool trusted_seal(void *memory, size_t length, struct iso_fault *fault);

/* Takes a gate that no open sandbox uses: its number, or -1. There is trusted memory, and until the
 * gate is returned there will be. */
int trusted_claim_gate(void);
/* Also after a call through it that has not returned: it gives nobody rights any more. */
void trusted_return_gate(int number);

/* For a thread that may have no rights to the heap: has them until they are returned. Returns the
 * rights before; of which what is said of the heap counts, and others may have been given since. */
uint32_t trusted_borrow(void);
void trusted_return(uint32_t before);

#endif
