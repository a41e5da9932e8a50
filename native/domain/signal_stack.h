/*
 * The stacks for signals of threads that use domains. The kernel takes the stack away when a signal
 * arrives (SS_AUTODISARM), and gives it back when the handler returns. A handler of the program's
 * that leaves by siglongjmp() never returns, so that a part that nobody uses is installed while it
 * runs: of the two halves, the one that the handler is not on.
 */
#ifndef DOMAIN_SIGNAL_STACK_H
#define DOMAIN_SIGNAL_STACK_H

#include "thread.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

/* The key of signal stacks: 0 where the kernel can write them whatever a domain's rights are. */
extern int signal_stack_key;

/* Finds out whether this kernel needs a key for them, with SIGNAL_STACK bytes to try it on, and
 * takes one. False: *fault. */
bool signal_stacks_prepare(uint8_t *stack, struct iso_fault *fault);

/* What sigaltstack() and a signal's frame take for the half that `in_use` does not lie in. */
stack_t signal_stack_half(const struct thread *thread, uintptr_t in_use);

/* Installs that half. False with errno. */
bool signal_stack_arm(const struct thread *thread, uintptr_t in_use);

/*
 * For a handler that has interrupted another one, which the other half is in use by: halves what is
 * left below `in_use`, and installs the lower part. False: that is not enough for handlers. There
 * is no signal stack then, and more signals go below this one.
 */
bool signal_stack_arm_rest(uintptr_t in_use);

#endif
