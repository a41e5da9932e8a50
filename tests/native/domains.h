/* What the tests of domains share. */
#ifndef DOMAINS_H
#define DOMAINS_H

#include "sandbox.h"

#include <signal.h>

bool has_protection_keys(void);

/* Skips the test where the CPU has no protection keys. */
void need_protection_keys(void);

/* Whether this kernel keeps domains from signal stacks, so that signals' handlers may call them. */
bool handlers_may_call(void);

/* What the kernel calls for signals: the runtime's handler. */
uint64_t signal_entry(void);

/* The calling thread's signal stack, which is the kernel's business: not what the program has set.
 */
stack_t signal_stack(void);

/* ---- memory of the caller's that nobody else may write ---- */

void draw_pattern(void);
void check_pattern(void);

/* ---- what domains hold ---- */

struct holdings {
    long resident; /* bytes */
    int mappings;  /* lines of /proc/self/maps */
    int keys;      /* that are free */
    int descriptors;
};

struct holdings take_stock(void);

/* As before, but for so many bytes of memory; mappings and keys exactly. */
void check_stock(const struct holdings *before, long may_grow);

extern const struct iso_mechanism *const domains[2]; /* iso_domain and iso_domain_view */

#endif
