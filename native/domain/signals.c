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
#include "substitutes.h"
#include "thread.h"

#include <errno.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2
#endif

void domain_signal(int number, siginfo_t *info, ucontext_t *context, unsigned flags);

/* ---- going on inside ---- */

static bool lies_between(uint64_t address, const char *begin, const char *end)
{
    return address - (uintptr_t)begin < (uintptr_t)end - (uintptr_t)begin;
}

/*
 * rt_sigreturn into a domain with selector on would itself be refused, and its frame is not to be
 * trusted. So: a copy of the frame, with all that matters set here, leads to the gate's own code.
 */
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
    size_t head = offsetof(ucontext_t, uc_sigmask) + sizeof(uint64_t); /* the kernel's part */
    ucontext_t *copy = (ucontext_t *)thread->frame;
    uint8_t *area = thread->frame + 4096; /* aligned to 64, as XRSTOR wants it */
    size_t size = frame_area_size(frame_area(context));
    memcpy(copy, context, head);
    copy->uc_flags = 1 | 2 | 4; /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
    copy->uc_link = NULL;
    copy->uc_stack = thread_stack_setting(thread, 0);
    greg_t *to = copy->uc_mcontext.gregs;
    to[REG_RIP] = (greg_t)gate_code(domain->number, gate_code_resume);
    to[REG_RSP] = (greg_t)(area - 128);
    to[REG_EFL] = 0x202;
    to[REG_CSGSFS] = 0x33 | (greg_t)0x2b << 48;
    copy->uc_mcontext.fpregs = NULL;
    if (size != 0 && size <= sizeof(thread->frame) - 4096) {
        memcpy(area, frame_area(context), size);
        copy->uc_mcontext.fpregs = (fpregset_t)area;
        frame_set_pkru(copy, PKRU_ALL);
    }
    gate_sigreturn(copy);
}

/* ---- violations ---- */

static enum iso_access access_of(const ucontext_t *context)
{
    enum { WRITE = 2, FETCH = 16 }; /* page fault error code: Intel SDM volume 3, 4.7 */
    greg_t error = context->uc_mcontext.gregs[REG_ERR];
    if ((error & FETCH) != 0) {
        return ISO_ACCESS_EXECUTE;
    }
    return (error & WRITE) != 0 ? ISO_ACCESS_WRITE : ISO_ACCESS_READ;
}

static void describe(struct iso_fault *fault, const struct domain *domain, int number,
                     const siginfo_t *info, const ucontext_t *context)
{
    uint64_t instruction = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    *fault = (struct iso_fault){
        .violation = ISO_VIOLATION_SIGNAL,
        .signal = number,
        .exit_code = -1,
        .instruction = instruction,
    };
    bool exits = false;
    const char *trap = NULL;
    switch (number) {
    case SIGSEGV:
    case SIGBUS: {
        /* An address that is not canonical is not told: the CPU raises another exception. */
        uint64_t address = (uint64_t)info->si_addr;
        fault->address_known = info->si_code != SI_KERNEL;
        if (!fault->address_known) {
            break;
        }
        fault->address = address;
        fault->access = access_of(context);
        if (number == SIGSEGV && info->si_code == SEGV_PKUERR) {
            fault->protection_key_known = true;
            fault->protection_key = (int)info->si_pkey;
        }
        if (region_has(&domain->region, address) &&
            address < (uintptr_t)domain->region.base + STACK_LOW_OFFSET) {
            fault->what = "stack overflow";
        }
        break;
    }
    case SIGILL:
        trap = substitute_trap(instruction, &exits);
        fault->what = trap;
        if (exits) {
            fault->violation = ISO_VIOLATION_EXIT;
            fault->exit_code = (int)(context->uc_mcontext.gregs[REG_RDI] & 0xff);
            fault->signal = 0;
        } else if (trap != NULL) {
            fault->signal = SIGABRT;
        }
        break;
    case SIGSYS:
        if (info->si_code == SYS_USER_DISPATCH) {
            fault->what = "system call refused";
            fault->system_call_known = true;
            fault->system_call = info->si_syscall;
        }
        break;
    default:
        break;
    }
}

static _Noreturn void rewind_call(struct thread *thread, struct domain *domain,
                                  const ucontext_t *context, int number)
{
    /* The kernel has masked what the program's action says, or all. */
    if (signal_stack_key > 0 || !(is_fault_signal(number) || number == deadline_signal())) {
        sigset_t mask = interrupted_mask(context);
        sigprocmask(SIG_SETMASK, &mask, NULL);
    }
    /* The kernel took the signal stack away when it switched to it. If this fails, so will the
     * next rewind; there is nobody to tell who could do better. */
    thread_arm_stack(thread, (uintptr_t)__builtin_frame_address(0));
    gate_rewind(gate_code(domain->number, gate_code_rewind), domain->gate->caller_rsp);
}

/* ---- signals inside ---- */

/* A fault that is a request for memory. */
static bool serve(struct domain *domain, int number, const siginfo_t *info)
{
    if (number != SIGSEGV || info->si_code <= 0 || info->si_code == SI_KERNEL) {
        return false;
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

/* Does what the program wants. Only the outermost signal changes halves: one that interrupted its
 * handler has frames of that one above it. */
static void act(const struct thread *thread, int number, siginfo_t *info, ucontext_t *context)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (thread != NULL && thread_of_stack((uintptr_t)context->uc_mcontext.gregs[REG_RSP]) == NULL) {
        thread_arm_stack(thread, here);
    }
    dispositions_act(number, info, context);
}

static void inside(struct thread *thread, int number, siginfo_t *info, ucontext_t *context,
                   uint64_t fs, uint64_t gs)
{
    struct domain *domain = thread->domain; /* it cannot be in another */
    uint64_t instruction = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    unsigned gate = domain->number;
    if (is_fault_signal(number) && is_own(domain, info)) {
        if (serve(domain, number, info)) {
            go_on(thread, domain, context, fs, gs);
        }
        if (domain->audit != NULL && audit_signal(domain, number, info, context)) {
            thread->plain_flag = 1; /* such a domain may make system calls, and sigreturn is one */
            return;
        }
        describe(&thread->fault, domain, number, info, context);
        rewind_call(thread, domain, context, number);
    }
    if (number != deadline_signal()) {
        thread->domain = NULL; /* a call from the program's handler is to find out */
        thread->in_handler = true;
        thread_hold_deadline(thread);
        act(thread, number, info, context);
        thread_resume_deadline(thread);
        thread->in_handler = false;
        thread->domain = domain;
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
        !domains_have_key((int)info->si_pkey)) {
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
    act(thread, number, info, context);
}

/* Whether a signal came before another one's handler had taken the flags; and not from a domain
 * that jumped there, which has its own rights or faults. */
static bool interrupted_an_entry(const struct domain *domain, int number, const siginfo_t *info,
                                 const ucontext_t *context)
{
    return lies_between((uint64_t)context->uc_mcontext.gregs[REG_RIP],
                        (const char *)(uintptr_t)gate_signal_entry, gate_signal_taken) &&
           frame_pkru(context) != domain->gate->pkru &&
           !(is_fault_signal(number) && info->si_code > 0);
}

/* Whether a signal interrupted a domain or its gate, and not another signal's handler. */
static bool interrupted_domain(const struct domain *domain, const ucontext_t *context)
{
    return domain != NULL && (frame_pkru(context) == domain->gate->pkru ||
                              lies_between((uint64_t)context->uc_mcontext.gregs[REG_RIP],
                                           gate_code(domain->number, gate_code_begin),
                                           gate_code(domain->number, gate_code_end)));
}

/* A function of its own: where errno lies must not be looked up before FS base is right. */
static __attribute__((noinline)) void dispatch(struct thread *thread, int number, siginfo_t *info,
                                               ucontext_t *context, uint64_t fs, uint64_t gs,
                                               bool is_inside)
{
    int error = errno;
    /* A domain that jumps to the handler with another thread's signal stack ends here: its own
     * thread still refuses system calls. */
    if (thread != NULL && syscall(SYS_gettid) != thread->tid) {
        __builtin_trap();
    }
    if (is_inside && interrupted_an_entry(thread->domain, number, info, context)) {
        thread->entry_interrupted = true; /* the other one's handler finds it */
        is_inside = false;
    } else if (thread != NULL && thread->entry_interrupted &&
               interrupted_domain(thread->domain, context)) {
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

/* Called by gate_signal_entry, with all rights. */
void domain_signal(int number, siginfo_t *info, ucontext_t *context, unsigned flags)
{
    struct thread *thread = thread_of_stack((uintptr_t)__builtin_frame_address(0));
    if (thread == NULL) {
        dispatch(NULL, number, info, context, 0, 0, false);
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
