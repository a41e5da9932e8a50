/*
 * Audit: which writes outside of its domain a library makes. Each is let through, once noted, so
 * that one call tells them all: what a library needs that a domain does not give.
 */
#ifndef DOMAIN_AUDIT_H
#define DOMAIN_AUDIT_H

#include "domain.h"

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

/*
 * From the signal handler, in a domain that is audited: notes a refused write and lets its
 * instruction run with the right to write; takes the right back after it. False: the signal is
 * about something else.
 */
bool audit_signal(struct domain *domain, int number, const siginfo_t *info, ucontext_t *context);

#endif
