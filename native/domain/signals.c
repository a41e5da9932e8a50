/*
 * The runtime's signal handler. It runs on the signal stack of an attached thread, or, in a thread
 * that has never used a domain, wherever the kernel put it.
 *
 * A fault inside a domain either asks for memory (the stack, the heap, a page of data that is
 * written for the first time), and the domain goes on; or it is a violation, and the call returns
 * an error. Nothing of the signal's frame is used for that but to describe the fault: on older
 * kernels the frame lies in memory that domains can write.
 *
 * Any other signal is the program's. If it came while a domain ran, the program's handler runs
 * outside, and the domain goes on afterwards by a frame of the runtime's own.
 */
#include "signals.h"

#include "audit.h"
#include "dispositions.h"
#include "domain.h"
#include "frame.h"
#include "gate.h"
#include "signal_stack.h"
#include "thread.h"
#include "unattached.h"
#include "violation.h"

#include <errno.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

void domain_signal(int number, siginfo_t *info, ucontext_t *context, unsigned flags);

/* ---- going on inside ---- */

static bool lies_between(uint64_t address, const char *begin, const char *end)
{
    return address - (uintptr_t)begin < (uintptr_t)end - (uintptr_t)begin;
}

/* Whether the call comes from a handler of the program's, whose frames are on the signal stack. */
static bool is_called_from_handler(const struct domain *domain)
{
    return thread_of_stack(domain->gate->caller_rsp) != NULL;
}

/*
 * Leaves the handler for the code of a gate. rt_sigreturn into a domain with selector on would
 * itself be refused, and its frame is not to be trusted. So: a copy of the frame, with all that
 * matters set here.
 */
static _Noreturn void leave(struct thread *thread, const struct domain *domain,
                            const ucontext_t *context, const char *code, uint64_t stack)
{
    ucontext_t *copy = frame_copy(context, thread->frame, sizeof(thread->frame));
    if (!is_called_from_handler(domain)) {
        copy->uc_stack = signal_stack_half(thread, 0);
    } /* else as the signal found it, which the handler's frames are not on */
    sigset_t mask = mask_to_restore(context);
    memcpy(&copy->uc_sigmask, &mask, sizeof(uint64_t));
    greg_t *to = copy->uc_mcontext.gregs;
    to[REG_RIP] = (greg_t)gate_code(domain->number, code);
    to[REG_RSP] = (greg_t)stack;
    to[REG_R8] = code == gate_code_rewind ? GATE_REWOUND : to[REG_R8];
    to[REG_EFL] = 0x202;
    to[REG_CSGSFS] = 0x33 | (greg_t)0x2b << 48;
    frame_set_pkru(copy, PKRU_ALL);
    gate_sigreturn(copy);
}

static _Noreturn void go_on(struct thread *thread, struct domain *domain, const ucontext_t *context,
                            uint64_t fs, uint64_t gs)
{
    enum { FLAGS_KEPT = 0xCD5 | 0x200000 }; /* status flags, DF, ID */
    struct gate *gate = domain->gate;
    const greg_t *from = context->uc_mcontext.gregs;
    uint64_t instruction = (uint64_t)from[REG_RIP];
    /* In the middle of going on: the gate still knows where to. */
    if (!lies_between(instruction, gate_code(domain->number, gate_code_resume),
                      gate_code(domain->number, gate_code_end))) {
        gate->resume_fs = fs;
        gate->resume_gs = gs;
        gate->resume_rax = (uint64_t)from[REG_RAX];
        gate->resume_rcx = (uint64_t)from[REG_RCX];
        gate->resume_rdx = (uint64_t)from[REG_RDX];
        gate->resume_rsp = (uint64_t)from[REG_RSP];
        gate->resume_rip = instruction;
        gate->resume_flags = ((uint64_t)from[REG_EFL] & FLAGS_KEPT) | 0x202;
    }
    /* The gate needs no stack on its way, and has one. */
    uintptr_t stack = (uintptr_t)thread->frame + sizeof(thread->frame) - 128;
    leave(thread, domain, context, gate_code_resume, stack);
}

/* ---- violations ---- */

static _Noreturn void rewind_call(struct thread *thread, struct domain *domain,
                                  const ucontext_t *context, int number)
{
    uint64_t caller = domain->gate->caller_rsp;
    bool refused = false;
    if (is_called_from_handler(domain)) {
        /* Its stack is in one half, this one in the other, and the latter is to be installed: both
         * at once, or a signal in between would find neither. */
        leave(thread, domain, context, gate_code_rewind, caller);
    }
    /* The kernel has masked what the program's action says, or all. */
    if (signal_stack_key > 0 || !(is_fault_signal(number) || number == deadline_signal())) {
        sigset_t mask = mask_to_restore(context);
        refused = sigprocmask(SIG_SETMASK, &mask, NULL) != 0;
    }
    /* The kernel took the signal stack away when it switched to it. */
    refused = !signal_stack_arm(thread, (uintptr_t)__builtin_frame_address(0)) || refused;
    if (refused) { /* sigreturn does both, for more instructions */
        leave(thread, domain, context, gate_code_rewind, caller);
    }
    gate_rewind(gate_code(domain->number, gate_code_rewind), caller);
}

/* ---- signals inside ---- */

/* A fault that is a request for memory. */
static bool serve(struct domain *domain, int number, const siginfo_t *info)
{
    if (number != SIGSEGV || info->si_code <= 0 || info->si_code == SI_KERNEL) {
        return false;
    }
    if (atomic_load(&domains_end)) {
        return false; /* what was put back for the libraries' destructors stays so */
    }
    uintptr_t address = (uintptr_t)info->si_addr;
    if (region_grow(&domain->region, address)) {
        return true;
    }
    if (tracked_touch(&domain->tls, address, domain->region.key)) {
        return true;
    }
    struct libraries *libraries = domain->libraries;
    for (size_t i = 0; i < libraries->data_count; i++) {
        if (tracked_touch(&libraries->data[i], address, domain->region.key)) {
            return true;
        }
    }
    return false;
}

/* Whether a signal is of the domain's own making. kill() from elsewhere is not; with system calls
 * allowed, a domain can raise(), and one cannot be told from the other. */
static bool is_own(const struct domain *domain, const siginfo_t *info)
{
    return info->si_code > 0 || (domain->allow_syscalls && info->si_pid == getpid());
}

/*
 * Does what the program wants. Meanwhile no domain is bound: a call from the program's handler is
 * to find out what it interrupts. `domain`: in the middle of a call of which it is; NULL: of none.
 */
static void act(struct thread *thread, struct domain *domain, int number, siginfo_t *info,
                ucontext_t *context)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    struct domain *bound = thread->domain;
    bool was_in_handler = thread->in_handler, had_no_stack = thread->has_no_stack;
    if (thread_of_stack((uintptr_t)context->uc_mcontext.gregs[REG_RSP]) != NULL ||
        (domain != NULL && is_called_from_handler(domain))) {
        /* The other half has frames of a handler in it. */
        thread->has_no_stack = !signal_stack_arm_rest(here);
    } else {
        signal_stack_arm(thread, here);
    }
    thread->domain = NULL;
    if (domain != NULL) {
        thread->in_handler = true;
        thread_hold_deadline(thread);
    }
    dispositions_act(number, info, context);
    if (domain != NULL) {
        thread_resume_deadline(thread);
    }
    thread->in_handler = was_in_handler;
    thread->has_no_stack = had_no_stack;
    if (domain != NULL && domain->thread == NULL) {
        domain->thread = thread; /* a call of the handler's has unbound it, and this one goes on */
    }
    bool goes_on = domain != NULL || !thread->may_have_loaded; /* else the next call binds */
    thread->domain = goes_on && bound != NULL && bound->thread == thread ? bound : NULL;
}

static void inside(struct thread *thread, int number, siginfo_t *info, ucontext_t *context,
                   uint64_t fs, uint64_t gs)
{
    struct domain *domain = thread->domain; /* it cannot be in another */
    uint64_t instruction = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    unsigned gate = domain->number;
    if (is_fault_signal(number) && is_own(domain, info)) {
        int error = errno;
        errno = 0;
        bool served = serve(domain, number, info);
        int refusal = errno;
        errno = error; /* the caller's, which finds it after the call as it was before */
        if (served) {
            go_on(thread, domain, context, fs, gs);
        }
        if (domain->audit != NULL && audit_signal(domain, number, info, context)) {
            thread->plain_flag = 1; /* such a domain may make system calls, and sigreturn is one */
            return;
        }
        if (refusal != 0) { /* no fault of the domain's */
            thread->fault = (struct iso_fault){
                .exit_code = -1, .system_errno = refusal, .what = "memory for a domain"};
        } else {
            violation_describe(&thread->fault, domain, number, info, context);
        }
        rewind_call(thread, domain, context, number);
    }
    if (number != deadline_signal()) {
        act(thread, domain, number, info, context);
    }
    /* Without a timer, the handler has forked, and there was none to be had. */
    if (thread_is_late(thread) || (thread->deadline_ns != 0 && !thread->has_timer)) {
        thread->fault = (struct iso_fault){
            .violation = ISO_VIOLATION_TIMEOUT, .exit_code = -1, .instruction = instruction};
        rewind_call(thread, domain, context, number);
    }
    /* The gate's own instructions between setting the flag and changing the rights: those come
     * back as the process, and on the way in set the flag again. */
    if (frame_pkru(context) == PKRU_ALL) {
        if (lies_between(instruction, gate_code(gate, gate_code_commit),
                         gate_code(gate, gate_code_inside))) {
            context->uc_mcontext.gregs[REG_RIP] = (greg_t)gate_code(gate, gate_code_commit);
            return;
        }
        if (lies_between(instruction, gate_code(gate, gate_code_outside),
                         gate_code(gate, gate_code_rewind))) {
            return;
        }
    }
    go_on(thread, domain, context, fs, gs);
}

/* ---- signals outside ---- */

/* A thread that has never used a domain reads a domain's memory, a result in place: it may. It gets
 * rights to that and no more: it may be in a call that PKRU-Safe's trusted heap is closed to. */
static bool give_rights(int number, const siginfo_t *info, const ucontext_t *context)
{
    if (number != SIGSEGV || info->si_code != SEGV_PKUERR || frame_pkru(context) == PKRU_ALL ||
        !keys_have((int)info->si_pkey)) {
        return false;
    }
    frame_set_pkru(context, pkru_with(frame_pkru(context), (int)info->si_pkey, KEY_WRITE));
    return true;
}

/* Left pending by a domain, it comes with the gate's first x87 instruction that waits. Found here,
 * because looking for it there would cost every call three instructions. */
static bool forget_fpu_exception(int number, const siginfo_t *info, const ucontext_t *context)
{
    enum { EXCEPTIONS = 0x80ff }; /* flags, stack fault, summary, busy: Intel SDM volume 1, 8.1.3 */
    if (number != SIGFPE || info->si_code <= 0 || context->uc_mcontext.fpregs == NULL ||
        !lies_between((uint64_t)context->uc_mcontext.gregs[REG_RIP], gate_code(0, gate_code_begin),
                      gate_code(GATE_COUNT + GATE_MODELS, gate_code_begin))) {
        return false;
    }
    context->uc_mcontext.fpregs->swd &= (uint16_t)~EXCEPTIONS;
    return true;
}

static void outside(struct thread *thread, int number, siginfo_t *info, ucontext_t *context)
{
    if (number == deadline_signal()) {
        /* If a call is under way, and this is between two parts of it, soon again. */
        if (info->si_code == SI_TIMER && thread != NULL && thread->deadline_ns != 0) {
            thread_repeat_deadline(thread);
        }
        return;
    }
    if (give_rights(number, info, context) || forget_fpu_exception(number, info, context)) {
        return;
    }
    if (thread == NULL) {
        unattached_act(number, info, context);
        return;
    }
    /* A part of a call that is outside: in the gate, or the time limit is set. */
    struct domain *domain = thread->domain;
    bool calls = domain != NULL && (domain->gate->caller_rsp != 0 || thread->deadline_ns != 0);
    act(thread, calls ? domain : NULL, number, info, context);
}

/*
 * Whether a signal came before another one's handler had taken the flags. Not if a domain jumped
 * there: it has its own rights or faults, and the kernel had not taken its signal stack away. Where
 * signal stacks have a key, the mask of all handlers keeps signals out.
 */
static bool interrupted_an_entry(int number, const siginfo_t *info, const ucontext_t *context)
{
    uint64_t instruction = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    return (lies_between(instruction, (const char *)(uintptr_t)gate_signal_entry,
                         gate_signal_taken) ||
            lies_between(instruction, (const char *)(uintptr_t)gate_signal_entry_model,
                         gate_signal_model_end)) &&
           signal_stack_key == 0 && (context->uc_stack.ss_flags & SS_DISABLE) != 0 &&
           !(is_fault_signal(number) && info->si_code > 0);
}

/* This signal has used up the proof that the other one had arrived. */
static void begin_entry_again(ucontext_t *context)
{
    greg_t *gregs = context->uc_mcontext.gregs;
    gregs[REG_RIP] =
        (greg_t)(uintptr_t)(keys_modelled ? gate_signal_entry_model : gate_signal_entry);
    gregs[REG_RDX] = gregs[REG_RSP] + 8; /* the other arguments are where they were */
}

/* Whether a signal interrupted a domain or its gate, and not another signal's handler. */
static bool interrupted_domain(const struct domain *domain, const ucontext_t *context)
{
    if (domain == NULL) {
        return false;
    }
    const greg_t *gregs = context->uc_mcontext.gregs;
    /* In a model all have the same rights, and are told by their stacks. */
    bool is_domains = keys_modelled ? region_has(&domain->region, (uintptr_t)gregs[REG_RSP])
                                    : frame_pkru(context) == domain->gate->pkru;
    return is_domains ||
           lies_between((uint64_t)gregs[REG_RIP], gate_code(domain->number, gate_code_begin),
                        gate_code(domain->number, gate_code_end));
}

/* A function of its own: where errno lies must not be looked up before FS base is right. */
static __attribute__((noinline)) void dispatch(struct thread *thread, int number, siginfo_t *info,
                                               ucontext_t *context, uint64_t fs, uint64_t gs,
                                               bool is_inside)
{
    int error = errno;
    if (syscall(SYS_gettid) != thread->tid) {
        if (in_own_process()) {
            __builtin_trap(); /* a domain on another thread's stack, against all odds */
        }
        outside(NULL, number, info, context); /* a child of vfork(), which has its parent's stack */
        errno = error;
        return;
    }
    if (interrupted_an_entry(number, info, context)) {
        thread->entry_interrupted |= is_inside; /* the other one's handler finds it */
        is_inside = false;
        begin_entry_again(context);
    } else if (thread->entry_interrupted && interrupted_domain(thread->domain, context)) {
        thread->entry_interrupted = false;
        is_inside = true;
    }
    if (is_inside) {
        inside(thread, number, info, context, fs, gs);
    } else {
        outside(thread, number, info, context);
    }
    errno = error;
}

static __attribute__((noinline)) void dispatch_unattached(int number, siginfo_t *info,
                                                          ucontext_t *context)
{
    int error = errno;
    outside(NULL, number, info, context);
    errno = error;
}

/* Called by gate_signal_entry, with all rights. */
void domain_signal(int number, siginfo_t *info, ucontext_t *context, unsigned flags)
{
    struct thread *thread = thread_of_stack((uintptr_t)__builtin_frame_address(0));
    if (thread == NULL) {
        dispatch_unattached(number, info, context);
        return;
    }
    uint64_t fs = _readfsbase_u64(); /* may be a domain's */
    uint64_t gs = _readgsbase_u64();
    _writefsbase_u64(thread->fs);
    _writegsbase_u64(thread->gs);
    dispatch(thread, number, info, context, fs, gs, flags != 0);
    _writefsbase_u64(fs);
    _writegsbase_u64(gs);
}

bool signals_prepare(struct iso_fault *fault)
{
    if (!keys_modelled && !frame_prepare()) {
        *fault = (struct iso_fault){
            .exit_code = -1, .system_errno = ENOSYS, .what = "finding PKRU by CPUID"};
        return false;
    }
    return dispositions_adopt(fault);
}
