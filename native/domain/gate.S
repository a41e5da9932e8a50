/*
 * Gates between the process and its domains, for a reader with the manual open: Intel SDM volume 2
 * (WRPKRU, RDPKRU, WRFSBASE), volume 3 section 4.6.2 (protection keys).
 *
 * WRPKRU takes EAX, and ECX = EDX = 0. Each one is followed by a comparison of EAX with the value
 * that belongs there, from memory that no domain can write (ERIM, USENIX Security 2019, section
 * 4.1): code that jumps to the instruction with rights of its own choosing ends in a trap. So does
 * code that jumps to the gate of another domain, or of none, which nobody is inside of.
 */
#include "gate.h"

#define WRPKRU .byte 0x0f, 0x01, 0xef

/* The gates behind GATE_COUNT are models: all the same, and rights are not switched. They are for
 * timing what surrounds the instruction where the CPU has none, and no walls. */
.macro SWITCH_RIGHTS
.if N < GATE_COUNT
    WRPKRU
.else
    .byte 0x0f, 0x1f, 0x00 /* NOP, as long: labels lie as in the others */
.endif
.endm

    .bss
    .balign 4096
    .globl gates
    .hidden gates
    .type gates, @object
    .size gates, (GATE_COUNT + GATE_MODELS) * GATE_STATE_SIZE
gates:
    .zero (GATE_COUNT + GATE_MODELS) * GATE_STATE_SIZE
    .balign 4096 /* nothing else shares its page */

#define STATE(field) gates + N * GATE_STATE_SIZE + (field)(%rip)

    .text
    .balign GATE_CODE_STRIDE
    .globl gate_code_begin, gate_code_commit, gate_code_inside, gate_code_outside, gate_code_exit
    .globl gate_code_rewind, gate_code_resume, gate_code_end
    .hidden gate_code_begin, gate_code_commit, gate_code_inside, gate_code_outside, gate_code_exit
    .hidden gate_code_rewind, gate_code_resume, gate_code_end

    .set N, 0
    .rept GATE_COUNT + GATE_MODELS
    .balign GATE_CODE_STRIDE, 0xcc

/* ---- in: rdi, rsi, r8, r9 are the arguments, r11 the function ---- */
.if N == 0
gate_code_begin:
.endif
    push %rbp
    stmxcsr STATE(GATE_MXCSR)
    fnstcw STATE(GATE_FPU_CONTROL)
    mov %rsp, STATE(GATE_CALLER_RSP)    /* the rewind context */
    mov STATE(GATE_FLAG), %r10
    mov STATE(GATE_DOMAIN_FS), %rax
    wrfsbase %rax
    mov STATE(GATE_STACK_TOP), %rsp
    pushq STATE(GATE_EXIT)              /* where the function returns to */
    mov STATE(GATE_PKRU), %eax
    xor %ecx, %ecx
    xor %edx, %edx
.if N == 0
gate_code_commit:
.endif
    movb $1, (%r10)                     /* from here system calls are refused */
    SWITCH_RIGHTS
.if N == 0
gate_code_inside:
.endif
    cmp STATE(GATE_PKRU), %eax
    jne 9f
    cmpq $0, STATE(GATE_CALLER_RSP)
    je 9f
    mov %r8, %rdx
    mov %r9, %rcx
    jmp *%r11

/* ---- out: the result is in eax, and nothing else means anything ---- */
.if N == 0
gate_code_exit:
.endif
    mov %eax, %r8d
    xor %eax, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    SWITCH_RIGHTS
.if N == 0
gate_code_outside:
.endif
    test %eax, %eax
    jne 9f
    mov STATE(GATE_CALLER_RSP), %rsp
    pushq $0x202                        /* faults if nobody is in the domain: a wild jump here */
    mov STATE(GATE_FLAG), %rdx
    movb $0, (%rdx)
    popfq                               /* DF, AC, NT, TF off */
.if N == 0
gate_code_rewind:
.endif
    mov STATE(GATE_CALLER_FS), %rax
    wrfsbase %rax
    mov STATE(GATE_CALLER_GS), %rax
    wrgsbase %rax
    movq $0, STATE(GATE_CALLER_RSP)
    ldmxcsr STATE(GATE_MXCSR)
    emms                                /* a full x87 stack would turn the next value into NaN; an */
                                        /* exception pending in it is raised here, and forgotten */
    fldcw STATE(GATE_FPU_CONTROL)
    pop %rbp
    ret

/* ---- back in after a signal: sigreturn came here with the domain's registers, save rax, rcx,
 * rdx, rsp and flags. Can be interrupted anywhere and begun again. ---- */
.if N == 0
gate_code_resume:
.endif
    mov STATE(GATE_FLAG), %rax
    movb $1, (%rax)
    mov STATE(GATE_RESUME_FS), %rax
    wrfsbase %rax
    mov STATE(GATE_RESUME_GS), %rax
    wrgsbase %rax
    mov STATE(GATE_PKRU), %eax
    xor %ecx, %ecx
    xor %edx, %edx
    SWITCH_RIGHTS
    cmp STATE(GATE_PKRU), %eax
    jne 9f
    cmpq $0, STATE(GATE_CALLER_RSP)
    je 9f
    lea STATE(GATE_RESUME_FLAGS), %rsp  /* no other memory can be read without a register */
    popfq
    mov STATE(GATE_RESUME_RAX), %rax
    mov STATE(GATE_RESUME_RCX), %rcx
    mov STATE(GATE_RESUME_RDX), %rdx
    mov STATE(GATE_RESUME_RSP), %rsp
    jmp *STATE(GATE_RESUME_RIP)

9:  ud2                                 /* rights that nobody gave: a violation */
.if N == 0
gate_code_end:
.endif
    .set N, N + 1
    .endr
    .balign GATE_CODE_STRIDE, 0xcc

/* ---- what the kernel calls for a signal ----
 *
 * A domain may jump to any byte of this, with a stack and arguments of its own making. What tells
 * the kernel's call from a jump is a byte in the slot of the signal stack, under key 0: the kernel
 * starts a handler with rights to key 0 and no other, so that the byte can be written before the
 * WRPKRU; a domain faults there, and if it leaves the write out, finds the byte 0 behind the WRPKRU.
 * From there on all is as the kernel made it: this thread's signal stack, the frame, the arguments.
 * (Two threads are needed to deceive it: a domain in one jumps to the WRPKRU with the other's
 * signal stack within the few instructions that a signal of the other one takes from the write to
 * the xchg. It has one try a call, and a failed one is a violation.)
 *
 * On another stack this must be a thread that is not in a domain: a system call proves it, for in a
 * domain it ends in SIGSYS. It proves nothing about a domain that may make system calls, which has
 * other ways out.
 *
 * The thread's flags are taken and cleared at once: a signal that comes later finds the process,
 * not the domain. One that comes before, between the two labels, has this begin again. */
    .globl gate_signal_entry, gate_signal_taken, gate_signal_end
    .hidden gate_signal_entry, gate_signal_taken, gate_signal_end
    .type gate_signal_entry, @function
gate_signal_entry:
    mov %rsp, %rax
    sub thread_area(%rip), %rax
    cmp thread_area_size(%rip), %rax
    jae 1f
    mov %rsp, %rax
    and $-THREAD_SLOT, %rax
    movb $1, THREAD_ARRIVED(%rax)
1:  mov %rdx, %r8
    mov %edi, %r10d                     /* r9d would make an IRET within an instruction */
    xor %eax, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    WRPKRU
    test %eax, %eax
    jne 9f
4:  mov %rsp, %rax                      /* again: a jump leads here, too */
    sub thread_area(%rip), %rax
    cmp thread_area_size(%rip), %rax
    jae 2f
    lea 8(%rsp), %rax                   /* struct rt_sigframe: the return address, the ucontext */
    cmp %rax, %r8
    jne 9f
    mov %rsp, %rdx
    and $-THREAD_SLOT, %rdx
    xchg %cl, THREAD_ARRIVED(%rdx)
    sub $1, %cl
    jne 9f
    xchg %cx, SIGNAL_STACK(%rdx)        /* refuse_flag and plain_flag, which were 0 or 1 */
gate_signal_taken:
    jmp 3f
2:  mov $39, %eax                       /* getpid */
    syscall
    xor %ecx, %ecx
3:  pushq $0x202
    popfq
    mov %r10d, %edi
    mov %r8, %rdx
    jmp domain_signal                   /* (number, info, context, flags) */
9:  ud2
gate_signal_end:
    .size gate_signal_entry, . - gate_signal_entry

/* Where there are no rights. A domain that jumps here keeps its own, and goes no further. */
    .globl gate_signal_entry_model, gate_signal_model_end
    .hidden gate_signal_entry_model, gate_signal_model_end
    .type gate_signal_entry_model, @function
gate_signal_entry_model:
    mov %rsp, %rax
    sub thread_area(%rip), %rax
    cmp thread_area_size(%rip), %rax
    jae 1f
    mov %rsp, %rax
    and $-THREAD_SLOT, %rax
    movb $1, THREAD_ARRIVED(%rax)
1:  mov %rdx, %r8
    mov %edi, %r10d
    xor %ecx, %ecx
    jmp 4b
gate_signal_model_end:
    .size gate_signal_entry_model, . - gate_signal_entry_model

/* ---- a thread's rights, outside of domains ----
 *
 * void gate_set_rights(uint32_t rights). A domain that jumps to the WRPKRU, with any rights and a
 * stack that leads it on, ends in the system call, which is refused to it. */
    .globl gate_set_rights, gate_set_rights_end
    .hidden gate_set_rights, gate_set_rights_end
    .type gate_set_rights, @function
gate_set_rights:
    mov %edi, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    WRPKRU
    mov $39, %eax                       /* getpid */
    syscall
    ret
gate_set_rights_end:
    .size gate_set_rights, . - gate_set_rights

    .globl gate_rewind
    .hidden gate_rewind
    .type gate_rewind, @function
gate_rewind:                            /* rdi: the gate's code, rsi: its caller_rsp */
    mov $GATE_REWOUND, %r8
    mov %rsi, %rsp
    jmp *%rdi
    .size gate_rewind, . - gate_rewind

    .globl gate_sigreturn
    .hidden gate_sigreturn
    .type gate_sigreturn, @function
gate_sigreturn:
    mov %rdi, %rsp
    mov $15, %eax                       /* rt_sigreturn */
    syscall
    ud2
    .size gate_sigreturn, . - gate_sigreturn

    .globl gate_leave_stack
    .hidden gate_leave_stack
    .type gate_leave_stack, @function
gate_leave_stack:                       /* rdi: the argument, rsi: the function, rdx: the stack */
    mov %rdx, %rsp
    xor %ebp, %ebp
    call *%rsi
    ud2
    .size gate_leave_stack, . - gate_leave_stack

    .section .note.GNU-stack, "", @progbits
