/*
 * Threads that use domains. A thread is attached at its first use: it gets a stack for signals that
 * the kernel can write while a domain's rights are in force, all rights outside of domains, no
 * restartable sequences (the kernel would update them under a domain's rights, and kill), and, when
 * a domain wants it, Syscall User Dispatch. It is detached when it ends.
 */
#ifndef DOMAIN_THREAD_H
#define DOMAIN_THREAD_H

#include "isolation.h"
#include "region.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define THREAD_MAX 1024

struct domain;

struct thread {
    /* The byte that the kernel reads at each system call: 1 refuses it. Also: "is in a domain". */
    volatile uint8_t refuse_flag;
    /* The same for domains that may make system calls. */
    volatile uint8_t plain_flag;
    volatile uint8_t
        arrived;          /* gate_signal_entry: the kernel has called for a signal, not a domain */
    bool may_have_loaded; /* this thread has called dlopen() since handlers were last adopted */
    bool dispatch_armed;
    bool has_timer;
    bool deadline_held; /* a handler of the program's runs: the timer is off until it returns */
    int tid;
    uint64_t fs, gs;
    struct domain *domain; /* whose gate is filled in for this thread; NULL: none */
    bool in_handler;       /* of a signal that interrupted a call */
    bool has_no_stack; /* while handlers are nested deep; for good if one leaves by siglongjmp() */
    bool entry_interrupted; /* a signal came between another one's arrival and its taking the flags
                             */
    timer_t timer;
    uint64_t deadline_ns;   /* CLOCK_MONOTONIC; 0: none */
    struct iso_fault fault; /* of the last violation */
    stack_t user_stack;     /* what sigaltstack() would say without us */
    /* A signal frame of our own, to return to a domain with. */
    _Alignas(64) uint8_t frame[64 << 10];
};

_Static_assert(offsetof(struct thread, refuse_flag) == 0 &&
                   offsetof(struct thread, plain_flag) == 1,
               "gate.S takes both flags at once");
_Static_assert(SIGNAL_STACK + offsetof(struct thread, arrived) == THREAD_ARRIVED, "arrived");
_Static_assert(SIGNAL_STACK + sizeof(struct thread) <= THREAD_SLOT, "a thread's slot is too small");

/* All threads' slots; gate.S compares stack pointers with it. */
extern uint8_t *thread_area;
extern uint64_t thread_area_size;

/* The calling thread; &thread_nobody before it is attached. */
extern __thread struct thread *thread_self __attribute__((tls_model("initial-exec")));
extern struct thread thread_nobody;

/* Reserves what threads need; finds out what this kernel needs. Once. */
bool threads_prepare(struct iso_fault *fault);

/* The calling thread's state; attaches it. NULL: *fault says why not. */
struct thread *thread_attach(struct iso_fault *fault);

/* Refuses system calls while refuse_flag is set. */
bool thread_arm_dispatch(struct thread *thread, struct iso_fault *fault);

/* The timer that ends calls. `nanoseconds` 0 disarms it. */
bool thread_set_deadline(struct thread *thread, uint64_t nanoseconds, struct iso_fault *fault);

/* From the signal handler: once more, soon; not until thread_resume_deadline(); when it is due. */
void thread_repeat_deadline(struct thread *thread);
void thread_hold_deadline(struct thread *thread);
void thread_resume_deadline(struct thread *thread);

/* Whether the deadline of the call that is under way has passed. */
bool thread_is_late(const struct thread *thread);

/* In the child of a fork: only the calling thread is left. */
void threads_after_fork(void);

/* The thread on whose signal stack this address lies, or NULL. */
static inline struct thread *thread_of_stack(uintptr_t address)
{
    uintptr_t offset = address - (uintptr_t)thread_area;
    if (offset >= thread_area_size) {
        return NULL;
    }
    return (struct thread *)(thread_area + offset / THREAD_SLOT * THREAD_SLOT + SIGNAL_STACK);
}

static inline uint8_t *thread_stack(const struct thread *thread)
{
    return (uint8_t *)(uintptr_t)thread - SIGNAL_STACK;
}

#endif
