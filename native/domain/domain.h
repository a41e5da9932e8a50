/*
 * Domains: foreign code that runs in this process, on its own stack and heap under its own
 * protection key, and cannot write anything else.
 *
 * Rights inside: key 0, which is nearly all of the process, can be read; the domain's own key can
 * be written; all others are closed. Secrets that must not be read go to a data domain, memory
 * under a key of its own, to which a domain is granted rights or, by default, none.
 *
 * A violation (a fault, an abort, a refused system call, a time limit that passed) rewinds: the
 * call returns an error, and the domain is as when it was opened.
 *
 * What this holds against is memory corruption. Code that gets itself executed with instructions of
 * its own choosing can lift the wall: WRPKRU needs no privilege. (libc holds one such instruction,
 * in pkey_set, and the dynamic loader two XRSTOR.)
 *
 * A strict domain loads no library that holds one (gadgets.h), and that of its own C library is
 * made a trap. It cannot make itself code: system calls are refused, its memory is not executable,
 * and the process's is not its to write. What this does not close: all that is executable in the
 * process can be jumped to from a domain, and so the pkey_set of the process's own libc, the two
 * XRSTOR of the dynamic loader, which is one for all namespaces, whatever else the process has
 * loaded (libpython has been seen to hold one by chance), and the libraries of domains that are not
 * strict. The runtime's own WRPKRU are each followed by a check. And constructors, destructors and
 * resolvers of indirect functions (STT_GNU_IFUNC) of foreign libraries run in the process,
 * unconfined, as in any domain.
 *
 * Signals. A violation of a call from a signal's handler is contained like any other. What such a
 * call has to keep away from is a call of the same domain that the signal has interrupted: in the
 * domain or in the gate it gets ISO_BUSY; in the few instructions before the gate and behind it,
 * where arguments are set up and the result is picked up, it cannot be told, and may change the
 * result that the interrupted call delivers. A thread that is inside of a domain cannot be
 * cancelled asynchronously (PTHREAD_CANCEL_ASYNCHRONOUS): glibc's handler for that asks for no
 * signal stack, and the process ends by SIGSEGV.
 *
 * Before Linux 6.12 the kernel writes a signal's frame with the rights of what it interrupts, so
 * that all domains can write all signal stacks. There, calls from handlers get ISO_BUSY, and
 * nothing is claimed of a handler that runs in one thread while a domain in another one is hostile:
 * it can change the handler's variables and where it returns to.
 *
 * Names after SDRaD (Gulmez, Nyman, Baumann, Muhlberg: "Rewind & Discard", DSN 2023).
 */
#ifndef DOMAIN_DOMAIN_H
#define DOMAIN_DOMAIN_H

#include "gate.h"
#include "heap.h"
#include "isolation.h"
#include "keys.h"
#include "loader.h"
#include "region.h"
#include "thread.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct domain {
    struct region region;
    struct core *core;
    struct gate *gate;
    const char *code;      /* of the gate */
    struct thread *thread; /* the thread that the gate is filled in for; NULL: none */
    struct libraries *libraries;
    struct tracked tls;
    uint64_t fs;             /* 0: the calling thread's */
    void *retired;           /* a result that the next call frees */
    uint64_t discards;       /* so far: results from before one are not the heap's any more */
    struct iso_audit *audit; /* where outside writes are noted and let through; NULL: refused */
    unsigned number;         /* of its gate, and modulo GATE_COUNT of its slot */
    bool allow_syscalls;
    bool in_use;
    bool closed; /* and if in use, yet: not all of its memory could be given back */
    bool
        abandoned; /* a call has left by siglongjmp() or with its thread: discard before the next */
};

/*
 * Opens a domain with these libraries in it. NULL: *fault says why; EAGAIN means that all keys are
 * taken. Of the options, allow_syscalls, strict and model_keys matter. With the last, a domain is
 * there to time all but the instruction; it is no wall, and a process that has one gets no others.
 */
struct domain *domain_open(const char *const *libraries, size_t count,
                           const struct iso_options *options, struct iso_fault *fault);
void domain_close(struct domain *domain);

/*
 * Fills the gate in for the calling thread. ISO_BUSY: another thread is inside, or this one, or the
 * call comes from a signal's handler where domains can write signal stacks, or from one so deep in
 * others that there is no stack for a violation's signal.
 */
enum iso_status domain_bind(struct domain *domain, struct iso_fault *fault);

/* The process ends: nothing becomes writable any more. */
extern atomic_bool domains_end;

/* The next call has to bind. */
void domain_unbind(struct domain *domain);

/* After a violation: an empty heap, an empty stack, libraries and thread-local storage as when
 * opened. `readable`: somebody may be reading results in the heap. False with errno. */
bool domain_discard(struct domain *domain, bool readable);

/* The calling thread's thread ends: nothing is bound to it any more. */
void domains_forget_thread(const struct thread *thread);

/* What a domain may do with memory under another key, from its next call on. */
void domain_grant(struct domain *domain, int key, enum key_rights rights);

/* Ends all that was granted of a key. False: one that is in a call still has its rights. The lock
 * is held. */
bool domains_revoke(int key);

/* The lock of all that is common to domains. Recursive; never held inside one. */
void domains_acquire(void);
void domains_release(void);

/* Readies the process for domains, or for models of them, and the calling thread. The lock is held.
 * False: *fault says why. */
bool domains_prepare(bool model, struct iso_fault *fault);

/* Runs target(first, second, third, fourth) inside; GATE_REWOUND after a violation, which the
 * calling thread's `fault` describes. The domain is ready. */
static inline __attribute__((always_inline)) int64_t domain_enter(struct domain *domain,
                                                                  const void *first,
                                                                  uint64_t second, void *third,
                                                                  uint64_t fourth, void *target)
{
    return gate_call(domain->code, first, second, third, fourth, target);
}

/* Whether the calling thread can enter as things are. */
static inline bool domain_is_ready(const struct domain *domain)
{
    return thread_self->domain == domain;
}

#endif
