/* The trusted heap: memory under one protection key, which all sandboxes of PKRU-Safe close. */
#ifndef PKRU_SAFE_TRUSTED_H
#define PKRU_SAFE_TRUSTED_H

#include "isolation.h"

/* Takes the key, if nobody has yet. False: *fault says why. */
bool trusted_hold(struct iso_fault *fault);

/* Gives it back with the last that holds it. */
void trusted_release(void);

/* Takes a gate that no open sandbox uses: its number, or -1. The key is held. */
int trusted_claim_gate(void);
void trusted_return_gate(int number);

/* For a thread that may have no rights to the heap: has them until they are returned. Returns the
 * rights before. */
uint32_t trusted_borrow(void);
void trusted_return(uint32_t before);

#endif
