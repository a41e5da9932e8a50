/* What a violation was, as the caller is told. */
#ifndef DOMAIN_VIOLATION_H
#define DOMAIN_VIOLATION_H

#include "domain.h"
#include "isolation.h"

#include <signal.h>
#include <ucontext.h>

/* Of a fault that a domain made: the signal, and what it says. */
void violation_describe(struct iso_fault *fault, const struct domain *domain, int number,
                        const siginfo_t *info, const ucontext_t *context);

#endif
