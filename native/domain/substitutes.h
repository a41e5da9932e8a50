/*
 * Functions that a library in a domain calls instead of its C library's: what allocates uses the
 * domain's heap, what ends the process ends the call. The loader writes them into the library's
 * global offset table.
 */
#ifndef DOMAIN_SUBSTITUTES_H
#define DOMAIN_SUBSTITUTES_H

#include "isolation.h"

#include <stdint.h>

/* The substitute for a function of this name, or NULL. */
void *substitute_for(const char *name);

/* What a trap at this instruction means, if it is one of the substitutes': abort, exit, a smashed
 * stack. NULL: it is not. `*exits`: the call asked to exit, with the status in EDI. */
const char *substitute_trap(uint64_t instruction, bool *exits);

/* Runs inside: frees core->retired, then calls the function if there is one. */
int domain_invoke(const uint8_t *input, size_t length, struct iso_bytes *output,
                  iso_function *function);

#endif
