/* What the program wants to happen on signals, while the kernel knows the runtime's handler only.
 */
#ifndef DOMAIN_DISPOSITIONS_H
#define DOMAIN_DISPOSITIONS_H

#include "isolation.h"

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

enum { SIGNAL_COUNT = 65 }; /* 1 to 64 */

/* Faults: the runtime handles these whether the program does or not. */
static inline bool is_fault_signal(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE ||
           number == SIGABRT || number == SIGSYS || number == SIGTRAP;
}

/* Whom the kernel kills that blocks one of these, when it comes: they are never blocked in threads
 * that use domains, whatever the program asks for. */
static inline bool is_needed_signal(int number)
{
    return is_fault_signal(number) && number != SIGABRT;
}

/* Unblocks these, and the signal of time limits, in the calling thread. */
void unblock_needed_signals(void);

/* Takes over the handlers there are, and chooses the signal for time limits. False: *fault. */
bool dispositions_adopt(struct iso_fault *fault);

/* Does what the program wants on a signal. From the handler, outside of domains. */
void dispositions_act(int number, siginfo_t *info, ucontext_t *context);

/* The mask that a signal's arrival has replaced. */
sigset_t interrupted_mask(const ucontext_t *context);

#endif
