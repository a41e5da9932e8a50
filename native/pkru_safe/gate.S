/*
 * Call gates after PKRU-Safe (Kirth et al., EuroSys 2022), for a reader with the manual
 * open: Intel SDM volume 2 (RDPKRU, WRPKRU), volume 3 section 4.6.2 (protection keys).
 *
 * A gate takes from the thread its rights to one key, the trusted heap's, calls a function on the
 * same stack, and gives them back. RDPKRU takes ECX = 0 and clears EDX; WRPKRU takes EAX, and
 * ECX = EDX = 0. Each WRPKRU is followed by a comparison of EAX (ERIM, USENIX Security 2019, section
 * 4.1): code that jumps to one with rights of its own choosing ends in a trap.
 *
 * What the comparison is with:
 * - on the way in, that the trusted key is closed, from a page that nobody can write; and that
 *   nothing else is opened, from memory that the called function could write but a domain of
 *   native/domain could not: these instructions do not lift the walls of others;
 * - on the way out, the rights that there were, from memory under the trusted key. Those to keys of
 *   native/domain may have been given meanwhile, and are kept: a function may read what a domain
 *   returned, and a signal's handler may attach the thread. Which keys those are (keys_rights) a
 *   domain cannot write, either. None may have been taken.
 *
 * The caller's stack, and what it keeps in registers, the called function may have changed: a gate
 * returns its own number, too, for what has to be looked up.
 */
#include "gate.h"

#define RDPKRU .byte 0x0f, 0x01, 0xee
#define WRPKRU .byte 0x0f, 0x01, 0xef

    .section .rodata
    .balign 4096
    .globl pkru_safe_mask
    .hidden pkru_safe_mask
    .type pkru_safe_mask, @object
    .size pkru_safe_mask, 4096
pkru_safe_mask:
    .zero 4096

    .data
    .balign 4096
    .globl pkru_safe_kept
    .hidden pkru_safe_kept
    .type pkru_safe_kept, @object
    .size pkru_safe_kept, 4096
pkru_safe_kept:
    .fill 1024, 4, 0xffffffff           /* rights that nobody has, before the first use, too */
    .globl pkru_safe_inside
    .hidden pkru_safe_inside
    .type pkru_safe_inside, @object
    .size pkru_safe_inside, PKRU_SAFE_GATES * 4
pkru_safe_inside:
    .fill PKRU_SAFE_GATES, 4, 0xffffffff

#define INSIDE pkru_safe_inside + N * 4(%rip)
#define OUTSIDE pkru_safe_kept + N * 4(%rip)
#define OWNER pkru_safe_kept + PKRU_SAFE_OWNERS + N * 8(%rip)
#define CLOSE pkru_safe_mask(%rip)
#define KEEP pkru_safe_mask + 4(%rip)

    .text
    .balign PKRU_SAFE_STRIDE
    .globl pkru_safe_begin, pkru_safe_commit, pkru_safe_return, pkru_safe_end
    .hidden pkru_safe_begin, pkru_safe_commit, pkru_safe_return, pkru_safe_end

    .set N, 0
    .rept PKRU_SAFE_GATES
    .balign PKRU_SAFE_STRIDE, 0xcc

/* ---- in: rdi, rsi, rdx are the arguments, rcx is 0, r8 the function ---- */
.if N == 0
pkru_safe_begin:
.endif
    .cfi_startproc
    push %rdx                           /* and the ABI's alignment */
    .cfi_adjust_cfa_offset 8
    mov %fs:0, %r9                      /* this thread */
    RDPKRU
    test %eax, CLOSE
    jne 8f                              /* this thread has no rights to the heap */
    mov %r9, OWNER                      /* before OUTSIDE: see in_child() */
    mov %eax, OUTSIDE
    or CLOSE, %eax
    mov %eax, INSIDE
.if N == 0
pkru_safe_commit:
.endif
    WRPKRU
    cmp INSIDE, %eax
    jne 9f
    not %eax
    test %eax, CLOSE
    jne 9f
    mov (%rsp), %rdx
    call *%r8

/* ---- out: the result is in eax, and comes out there; the gate's number in edx ---- */
    mov %eax, %r8d
    xor %ecx, %ecx
    RDPKRU
    and KEEP, %eax
.if N == 0
pkru_safe_return:
.endif
    WRPKRU
    cmp OUTSIDE, %eax                   /* a fault, if the heap is not open */
    jne 7f
6:  movl $-1, INSIDE                    /* nobody is inside */
    movl $-1, OUTSIDE
    mov %r8d, %eax
    mov $N, %edx
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_adjust_cfa_offset 8
7:  cmpl $-1, OUTSIDE
    je 9f                               /* nobody was inside */
    mov OUTSIDE, %ecx
    xor %eax, %ecx
    test %eax, %ecx
    jne 9f                              /* some were taken */
    mov keys_rights(%rip), %edx
    not %edx
    test %edx, %ecx                     /* the other way about, a far return within it */
    je 6b
    jmp 9f                              /* others were given */
8:  mov $PKRU_SAFE_CLOSED, %rax
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_adjust_cfa_offset 8
9:  ud2                                 /* rights that nobody gave */
    .cfi_endproc
.if N == 0
pkru_safe_end:
.endif
    .set N, N + 1
    .endr

    .section .note.GNU-stack, "", @progbits
