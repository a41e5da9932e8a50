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

/* What is left without them of a mask that the program asks for. */
sigset_t without_needed(const sigset_t *mask);

/* The mask that a signal's arrival has replaced, without them. */
sigset_t mask_to_restore(const ucontext_t *context);

/* Takes over the handlers there are, and chooses the signal for time limits. False: *fault. */
bool dispositions_adopt(struct iso_fault *fault);

/* In the child of a fork, which has them for itself. */
void dispositions_after_fork(void);

/* False in a child of vfork(): it has this memory, where nothing is to change, and signal stacks
 * and dispositions of its own in the kernel. */
bool in_own_process(void);

/* sigaction() of the program's. */
int disposition_set(int number, const struct sigaction *action, struct sigaction *before);

/* Whether the program has a handler for it that does not ask for the alternate stack. */
bool handles_on_interrupted_stack(int number);

/* Does what the program wants on a signal. From the handler, outside of domains. */
void dispositions_act(int number, siginfo_t *info, ucontext_t *context);

#endif
