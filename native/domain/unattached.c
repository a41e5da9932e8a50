#include "unattached.h"

#include "dispositions.h"
#include "frame.h"
#include "gate.h"
#include "keys.h"
#include "signal_stack.h"

#include <errno.h>

/* The handler's arguments, and the frame to return by, on the stack that it runs on. */
struct delivery {
    int number;
    int error; /* errno */
    siginfo_t info;
    ucontext_t *context;
};

/*
 * If its handler was the first in this thread to use a domain, that is to outlast the return. What
 * was interrupted has the rights that it had, for it may be a function that PKRU-Safe's trusted
 * heap is closed to, but for those to its signal stack, which the kernel needs; it gets others as
 * it needs them (give_rights() of signals.c), and all when it has called a domain.
 */
static void keep_attached(ucontext_t *context)
{
    if (thread_self == &thread_nobody) {
        return;
    }
    context->uc_stack = signal_stack_half(thread_self, 0);
    thread_self->domain = NULL; /* its next call finds out what it needs */
    if (signal_stack_key > 0) {
        frame_set_pkru(context, pkru_with(frame_pkru(context), signal_stack_key, KEY_WRITE));
    }
}

static void deliver(void *argument)
{
    struct delivery *delivery = argument;
    dispositions_act(delivery->number, &delivery->info, delivery->context);
    keep_attached(delivery->context);
    errno = delivery->error;
    gate_sigreturn(delivery->context);
}

/*
 * The kernel has been asked for the alternate stack on behalf of threads that use domains. In one
 * that does not, that stack is the program's, for handlers that ask for it: one that does not may
 * need more, and runs on the stack that it interrupts. As if the kernel had put it there: with a
 * frame of its own to return by, so that the alternate stack is free.
 */
void unattached_act(int number, siginfo_t *info, ucontext_t *context)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t interrupted = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
    uintptr_t stack = (uintptr_t)context->uc_stack.ss_sp;
    size_t size = context->uc_stack.ss_size;
    if (!handles_on_interrupted_stack(number) || here - stack >= size ||
        interrupted - stack < size) {
        dispositions_act(number, info, context);
        keep_attached(context);
        return;
    }
    enum { RED_ZONE = 128 };
    uintptr_t frame = (interrupted - RED_ZONE - frame_size(context)) & ~(uintptr_t)63;
    struct delivery *delivery = (struct delivery *)((frame - sizeof(*delivery)) & ~(uintptr_t)63);
    *delivery = (struct delivery){.number = number, .error = errno, .info = *info};
    delivery->context = frame_copy(context, (uint8_t *)frame, frame_size(context));
    gate_leave_stack(delivery, deliver, (uintptr_t)delivery);
}
