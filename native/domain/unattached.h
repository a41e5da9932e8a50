/* Signals in threads that have never used a domain. */
#ifndef DOMAIN_UNATTACHED_H
#define DOMAIN_UNATTACHED_H

#include <signal.h>
#include <ucontext.h>

/* Does what the program wants, and may return by a frame of its own. */
void unattached_act(int number, siginfo_t *info, ucontext_t *context);

#endif
