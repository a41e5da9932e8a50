#include "thread.h"

#include "dispositions.h"
#include "domain.h"
#include "held_signals.h"
#include "keys.h"
#include "signal_stack.h"
#include "signals.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif
#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

uint8_t *thread_area;
uint64_t thread_area_size;
struct thread thread_nobody;
__thread struct thread *thread_self __attribute__((tls_model("initial-exec"))) = &thread_nobody;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool slot_used[THREAD_MAX];
static pthread_key_t at_thread_end;
static bool at_end_known;

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

static void detach(void *thread);

bool threads_prepare(struct iso_fault *fault)
{
    if (thread_area != NULL) {
        return true;
    }
    unsigned eax, ebx, ecx = 0, edx;
    __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
    if (keys_modelled && (ecx & bit_OSPKE) != 0) {
        errno = EINVAL;
        return refused(fault, "modelling protection keys on a CPU that has them");
    }
    if (!keys_modelled && (ecx & bit_OSPKE) == 0) {
        errno = ENOSYS;
        return refused(fault, "protection keys (CPU flag ospke)");
    }
    if ((getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) == 0) {
        errno = ENOSYS;
        return refused(fault, "FSGSBASE, which gates need (Linux 5.9 or newer)");
    }
    size_t size = (size_t)THREAD_MAX * THREAD_SLOT;
    uint8_t *area = mmap(NULL, size + THREAD_SLOT, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) {
        return refused(fault, "mmap");
    }
    uint8_t *base =
        (uint8_t *)(((uintptr_t)area + THREAD_SLOT - 1) & ~(uintptr_t)(THREAD_SLOT - 1));
    if (!at_end_known) {
        int error = pthread_key_create(&at_thread_end, detach);
        at_end_known = error == 0;
        errno = error;
    }
    if (!at_end_known) {
        refused(fault, "pthread_key_create");
    } else if (mprotect(base, SIGNAL_STACK, PROT_READ | PROT_WRITE) != 0) {
        refused(fault, "mprotect");
    } else if (keys_modelled || signal_stacks_prepare(base, fault)) {
        thread_area_size = size;
        thread_area = base;
        return true;
    }
    munmap(area, size + THREAD_SLOT);
    return false;
}

/* ---- attaching ---- */

/* glibc registers an area in thread-local storage, by one of these lengths. */
static bool unregister_rseq(void)
{
    enum { UNREGISTER = 1, SIGNATURE = 0x53053053 };
    if (__rseq_size == 0) {
        return true; /* switched off by a tunable, or refused by the kernel */
    }
    uint8_t *area = (uint8_t *)__builtin_thread_pointer() + __rseq_offset;
    unsigned long announced = getauxval(27 /* AT_RSEQ_FEATURE_SIZE */);
    const unsigned long lengths[] = {32, __rseq_size, announced, (announced + 31) & ~31UL};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        if (lengths[i] >= 32 && syscall(SYS_rseq, area, lengths[i], UNREGISTER, SIGNATURE) == 0) {
            return true;
        }
        /* EINVAL: another length, or it is not registered any more. */
        if (errno != EINVAL) {
            return false;
        }
    }
    /* Nothing of glibc's is registered: try to register, to tell that from a length we miss. */
    if (syscall(SYS_rseq, area, 32UL, 0, SIGNATURE) == 0) {
        return syscall(SYS_rseq, area, 32UL, UNREGISTER, SIGNATURE) == 0;
    }
    return false;
}

static uint8_t *claim_slot(void)
{
    uint8_t *slot = NULL;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < THREAD_MAX && slot == NULL; i++) {
        if (!slot_used[i]) {
            slot_used[i] = true;
            slot = thread_area + i * THREAD_SLOT;
        }
    }
    pthread_mutex_unlock(&lock);
    return slot;
}

static void give_slot_back(uint8_t *slot)
{
    /* Fresh pages under key 0, which cost nothing until somebody comes. */
    if (mmap(slot, THREAD_SLOT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
             -1, 0) == MAP_FAILED) {
        return; /* nobody gets it, with what it holds */
    }
    pthread_mutex_lock(&lock);
    slot_used[(size_t)(slot - thread_area) / THREAD_SLOT] = false;
    pthread_mutex_unlock(&lock);
}

static bool prepare_slot(uint8_t *slot)
{
    size_t state = THREAD_SLOT - SIGNAL_STACK;
    return key_protect(slot, SIGNAL_STACK, PROT_READ | PROT_WRITE, signal_stack_key) == 0 &&
           mprotect(slot + SIGNAL_STACK, state, PROT_READ | PROT_WRITE) == 0;
}

/* Signals are blocked: a handler may attach the thread, too, but not in the midst of it. */
static struct thread *attach(struct iso_fault *fault)
{
    uint8_t *slot = claim_slot();
    if (slot == NULL) {
        errno = EAGAIN;
        refused(fault, "more than 1024 threads that use domains");
        return NULL;
    }
    struct thread *thread = (struct thread *)(slot + SIGNAL_STACK);
    const char *what = NULL;
    stack_t before;
    if (!prepare_slot(slot)) {
        what = "mprotect";
    } else if (!unregister_rseq()) {
        what = "rseq";
    } else if (sigaltstack(NULL, &before) != 0) {
        what = "sigaltstack";
    } else {
        /* All but what is filled in before each use. */
        memset(thread, 0, offsetof(struct thread, frame));
        thread->may_have_loaded = true;
        thread->tid = (int)syscall(SYS_gettid);
        thread->fs = _readfsbase_u64();
        thread->gs = _readgsbase_u64();
        thread->user_stack = before;
        int error = pthread_setspecific(at_thread_end, thread);
        if (error != 0) {
            errno = error;
            what = "pthread_setspecific";
        } else if (!signal_stack_arm(thread, 0)) {
            what = "sigaltstack";
        }
    }
    if (what != NULL) {
        int error = errno;
        if (thread_area != NULL) {
            pthread_setspecific(at_thread_end, NULL);
        }
        give_slot_back(slot);
        errno = error;
        refused(fault, what);
        return NULL;
    }
    write_pkru(PKRU_ALL);
    thread_self = thread;
    return thread;
}

struct thread *thread_attach(struct iso_fault *fault)
{
    if (thread_self != &thread_nobody) {
        return thread_self;
    }
    sigset_t before = hold_signals();
    struct thread *thread = thread_self != &thread_nobody ? thread_self : attach(fault);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (thread != NULL) {
        unblock_needed_signals();
    }
    errno = error;
    return thread;
}

static void detach(void *argument)
{
    struct thread *thread = argument;
    sigset_t mask = hold_signals();
    domains_forget_thread(thread);
    thread_self = &thread_nobody;
    bool is_free = !thread->dispatch_armed ||
                   prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) == 0;
    if (thread->has_timer) {
        timer_delete(thread->timer);
    }
    stack_t before = thread->user_stack;
    is_free = syscall(SYS_sigaltstack, &before, NULL) == 0 && is_free;
    if (is_free) {
        give_slot_back(thread_stack(thread));
    } /* else the kernel needs it until the thread has ended, and nobody gets it */
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static bool arm_dispatch(struct thread *thread)
{
    thread->dispatch_armed =
        prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &thread->refuse_flag) == 0;
    return thread->dispatch_armed;
}

bool thread_arm_dispatch(struct thread *thread, struct iso_fault *fault)
{
    return thread->dispatch_armed || arm_dispatch(thread) ||
           refused(fault, "prctl(PR_SET_SYSCALL_USER_DISPATCH), which needs Linux 5.11");
}

/* ---- time limits ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static bool create_timer(struct thread *thread)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = deadline_signal()};
    event._sigev_un._tid = thread->tid;
    thread->has_timer = timer_create(CLOCK_MONOTONIC, &event, &thread->timer) == 0;
    return thread->has_timer;
}

/* `nanoseconds` from now; 0: off. */
static bool set_timer(const struct thread *thread, uint64_t nanoseconds)
{
    const struct itimerspec limit = {.it_value = {.tv_sec = (time_t)(nanoseconds / 1000000000U),
                                                  .tv_nsec = (long)(nanoseconds % 1000000000U)}};
    return timer_settime(thread->timer, 0, &limit, NULL) == 0;
}

bool thread_set_deadline(struct thread *thread, uint64_t nanoseconds, struct iso_fault *fault)
{
    if (!thread->has_timer && !create_timer(thread)) {
        return refused(fault, "timer_create");
    }
    thread->deadline_held = false;
    thread->deadline_ns = 0;
    if (nanoseconds != 0) {
        uint64_t now = now_ns();
        thread->deadline_ns = nanoseconds < UINT64_MAX - now ? now + nanoseconds : UINT64_MAX;
    }
    /* A handler that has forked in between leaves the child with its parent's timer. */
    if (set_timer(thread, nanoseconds) ||
        (errno == EINVAL && create_timer(thread) && set_timer(thread, nanoseconds))) {
        return true;
    }
    thread->deadline_ns = 0;
    return refused(fault, "timer_settime");
}

void thread_repeat_deadline(struct thread *thread)
{
    if (!thread->deadline_held) {
        set_timer(thread, 200000); /* it was set before, and so can be again */
    }
}

/* If the handler leaves the call by siglongjmp(), no signal comes that nobody waits for. */
void thread_hold_deadline(struct thread *thread)
{
    if (thread->deadline_ns != 0) {
        thread->deadline_held = true;
        set_timer(thread, 0);
    }
}

void thread_resume_deadline(struct thread *thread)
{
    if (thread->deadline_ns != 0) {
        uint64_t now = now_ns();
        thread->deadline_held = false;
        if (!set_timer(thread, now < thread->deadline_ns ? thread->deadline_ns - now : 1)) {
            timer_delete(thread->timer); /* without it, the handler ends the call */
            thread->has_timer = false;
        }
    }
}

bool thread_is_late(const struct thread *thread)
{
    return thread->deadline_ns != 0 && now_ns() >= thread->deadline_ns;
}

/* ---- fork ---- */

/* In the child: only this thread is left, and dispatch and timers are not inherited. */
void threads_after_fork(void)
{
    if (thread_area == NULL) {
        return;
    }
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    for (size_t i = 0; i < THREAD_MAX; i++) {
        uint8_t *slot = thread_area + i * THREAD_SLOT;
        if (slot_used[i] && (thread_self == &thread_nobody || slot != thread_stack(thread_self))) {
            give_slot_back(slot);
        }
    }
    struct thread *thread = thread_self;
    if (thread != &thread_nobody) {
        thread->tid = (int)syscall(SYS_gettid);
        thread->has_timer = false;
        if (thread->dispatch_armed && !arm_dispatch(thread)) {
            /* What worked in the parent. The next call tries again; a signal's handler may have
             * interrupted one to fork: better no process than no wall. */
            if (thread_of_stack((uintptr_t)__builtin_frame_address(0)) != NULL) {
                __builtin_trap();
            }
            if (thread->domain != NULL) {
                domain_unbind(thread->domain);
            }
        }
        if (thread->deadline_ns != 0) {
            create_timer(thread); /* if it cannot, the handler ends the call */
        }
    }
}
