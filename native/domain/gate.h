/*
 * The gates: the only code that changes the protection keys' rights on the way into a domain and
 * out of it. Assembly and C share this file.
 *
 * Each domain has a gate of its own, whose instructions find its state at a fixed distance from
 * themselves: on the way out nothing is believed that the domain could have written, neither
 * registers nor its stack, nor FS base (WRFSBASE needs no privilege), and so not thread-local
 * storage either.
 */
#ifndef DOMAIN_GATE_H
#define DOMAIN_GATE_H

/* Hardware has 16 keys. Key 0 is everybody's; where the kernel needs one for signal stacks there is
 * one domain less. */
#define GATE_COUNT 15

/* As many more that do not switch rights; see domain_open(). */
#define GATE_MODELS GATE_COUNT

#define GATE_STATE_SIZE 192
#define GATE_CODE_STRIDE 512

/* Offsets in struct gate. */
#define GATE_CALLER_RSP 0
#define GATE_FLAG 8
#define GATE_CALLER_FS 16
#define GATE_CALLER_GS 24
#define GATE_DOMAIN_FS 32
#define GATE_STACK_TOP 40
#define GATE_PKRU 48
#define GATE_MXCSR 52
#define GATE_FPU_CONTROL 56
#define GATE_RESUME_FS 64
#define GATE_RESUME_GS 72
#define GATE_RESUME_RAX 80
#define GATE_RESUME_RCX 88
#define GATE_RESUME_RDX 96
#define GATE_RESUME_RSP 104
#define GATE_RESUME_RIP 112
#define GATE_RESUME_FLAGS 120
#define GATE_EXIT 128

/* Each thread that uses domains has a slot: its signal stack, then its state, which begins with
 * the two flags. Handlers of the program's that expect the stack that they interrupt run on it,
 * too: each half of it is long, and costs what is used of it. */
#define THREAD_SLOT 0x800000
#define SIGNAL_STACK 0x400000
#define THREAD_ARRIVED (SIGNAL_STACK + 2) /* of a slot: the byte that proves a signal's arrival */

/* What a call through a gate returns after a rewind; a function's own result is 32 bits wide. */
#define GATE_REWOUND (-1)

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

struct gate {
    uint64_t caller_rsp;    /* the whole rewind context; 0: nobody is inside, or can get there */
    volatile uint8_t *flag; /* of the thread that uses the gate: it is inside a domain */
    uint64_t caller_fs;
    uint64_t caller_gs;
    uint64_t domain_fs;
    uint64_t stack_top;
    uint32_t pkru; /* rights inside */
    uint32_t mxcsr;
    uint16_t fpu_control;
    uint64_t resume_fs; /* to go on inside after a signal */
    uint64_t resume_gs;
    uint64_t resume_rax;
    uint64_t resume_rcx;
    uint64_t resume_rdx;
    uint64_t resume_rsp;
    uint64_t resume_rip;
    uint64_t resume_flags;
    uint64_t exit; /* where the function returns to */
    uint64_t padding[7];
};

_Static_assert(sizeof(struct gate) == GATE_STATE_SIZE, "gate.S and struct gate differ");
_Static_assert(offsetof(struct gate, flag) == GATE_FLAG, "flag");
_Static_assert(offsetof(struct gate, caller_fs) == GATE_CALLER_FS, "caller_fs");
_Static_assert(offsetof(struct gate, caller_gs) == GATE_CALLER_GS, "caller_gs");
_Static_assert(offsetof(struct gate, domain_fs) == GATE_DOMAIN_FS, "domain_fs");
_Static_assert(offsetof(struct gate, stack_top) == GATE_STACK_TOP, "stack_top");
_Static_assert(offsetof(struct gate, pkru) == GATE_PKRU, "pkru");
_Static_assert(offsetof(struct gate, mxcsr) == GATE_MXCSR, "mxcsr");
_Static_assert(offsetof(struct gate, fpu_control) == GATE_FPU_CONTROL, "fpu_control");
_Static_assert(offsetof(struct gate, resume_fs) == GATE_RESUME_FS, "resume_fs");
_Static_assert(offsetof(struct gate, exit) == GATE_EXIT, "exit");
_Static_assert(offsetof(struct gate, resume_flags) == GATE_RESUME_FLAGS, "resume_flags");

extern struct gate gates[GATE_COUNT + GATE_MODELS];

/* Code of gate 0; gate N's lies N * GATE_CODE_STRIDE behind. */
extern const char gate_code_begin[];
extern const char gate_code_commit[]; /* sets the flag; restartable up to gate_code_inside */
extern const char gate_code_inside[]; /* after WRPKRU: the domain's rights */
extern const char gate_code_exit[];
extern const char gate_code_outside[]; /* after WRPKRU on the way out: all rights */
extern const char gate_code_rewind[];  /* the flag is cleared */
extern const char gate_code_resume[];  /* goes on inside, where resume_* say */
extern const char gate_code_end[];

static inline const char *gate_code(unsigned number, const char *label)
{
    return label + (size_t)number * GATE_CODE_STRIDE;
}

/* The function may use them anyhow; without the option the compiler has nothing in them. */
#ifdef __AVX512F__
#define GATE_AVX512_REGISTERS                                                                      \
    "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",      \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5",  \
        "k6", "k7",
#else
#define GATE_AVX512_REGISTERS
#endif

/*
 * Calls target(first, second, third, fourth) through a gate, which begins at `code` and whose state
 * is filled in but for caller_rsp. Returns its result, zero-extended, or GATE_REWOUND. The gate
 * saves no registers but rbp and rsp: the compiler saves what it needs, here.
 */
static inline __attribute__((always_inline)) int64_t gate_call(const char *code, const void *first,
                                                               uint64_t second, void *third,
                                                               uint64_t fourth, void *target)
{
    const char *result = code; /* in rax on the way in */
    register void *r8 __asm__("r8") = third;
    register uint64_t r9 __asm__("r9") = fourth;
    register void *r11 __asm__("r11") = target;
    __asm__ volatile("call *%%rax"
                     : "+a"(result), "+D"(first), "+S"(second), "+r"(r8), "+r"(r9), "+r"(r11)
                     :
                     : "rbx", "rcx", "rdx", "r10", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                       "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                       "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", GATE_AVX512_REGISTERS "cc",
                       "memory");
    return (int64_t)r8;
}

/* From a signal handler, with all rights and the flag cleared: goes on at a gate's
 * gate_code_rewind, so that its call returns GATE_REWOUND. */
_Noreturn void gate_rewind(const char *code, uint64_t caller_rsp);

/* From a signal handler, with all rights: rt_sigreturn of the frame whose ucontext this is. */
_Noreturn void gate_sigreturn(void *context);

/* This thread's rights, outside of domains; keys.h has it for callers. */
void gate_set_rights(uint32_t pkru);
extern const char gate_set_rights_end[];

/* What the kernel calls for a signal; it calls domain_signal. */
void gate_signal_entry(int number, void *info, void *context);
void gate_signal_entry_model(int number, void *info, void *context);
extern const char gate_signal_model_end[];
extern const char gate_signal_taken[]; /* within it: the thread's flags are cleared */
extern const char gate_signal_end[];

/* Calls a function that does not return, on another stack, whose end is aligned to 16. */
_Noreturn void gate_leave_stack(void *argument, void (*function)(void *), uintptr_t stack);
#endif
#endif
