/* Signals that are held back in the calling thread, while it has a lock that a handler may want. */
#ifndef HELD_SIGNALS_H
#define HELD_SIGNALS_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

/* pthread_sigmask() fails only for an operation that is none. */
static inline void release_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* Returns the mask to put back. */
static inline sigset_t hold_signals(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    return before;
}

/* But for those of what the thread itself does, where code of others runs meanwhile: a fault that
 * finds its signal blocked ends the process without its handler, and so does a filter of system
 * calls that answers by SIGSYS. */
static inline sigset_t hold_signals_of_others(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    sigset_t others, before;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        sigdelset(&others, own[i]);
    }
    pthread_sigmask(SIG_BLOCK, &others, &before);
    return before;
}

#endif
