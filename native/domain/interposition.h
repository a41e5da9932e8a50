/*
 * What the program calls instead of the C library, so that signals and their stacks stay as domains
 * need them: written into the global offset tables of what is loaded. Code that is loaded later is
 * reached when a domain is opened, and at the next call into one of the thread that has loaded it
 * by dlopen(). What it installs before that is adopted then; a signal of it that comes earlier,
 * while another thread is inside a domain, finds a handler that knows nothing of domains.
 */
#ifndef DOMAIN_INTERPOSITION_H
#define DOMAIN_INTERPOSITION_H

#include "isolation.h"

#include <stdbool.h>

/* Also for what came since the last time. False: *fault. */
bool interposition_adopt(struct iso_fault *fault);

/* Whether nothing was loaded since. */
bool interposition_is_current(void);

#endif
