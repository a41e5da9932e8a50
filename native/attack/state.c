/* Functions that leave the machine in another state than they found it in, and return. */
#include "attack.h"
#include "kernel.h"

#include <sys/auxv.h>

#if defined(__x86_64__)

#define FLAGS(name, mask)                                                                          \
    ATTACK(name)                                                                                   \
    {                                                                                              \
        __asm__ volatile("pushfq\n orq %0, (%%rsp)\n popfq" : : "i"(mask) : "memory", "cc");       \
        return 0;                                                                                  \
    }

FLAGS(set_direction_flag, 0x400)
FLAGS(set_alignment_check, 0x40000)
FLAGS(set_trap_flag, 0x100)
FLAGS(set_nested_task, 0x4000)

ATTACK(set_mxcsr) /* exceptions stay masked: round up, flush to zero */
{
    unsigned mxcsr = 0xdf80;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    return 0;
}

ATTACK(fill_x87_stack)
{
    __asm__ volatile("fninit\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1");
    return 0;
}

ATTACK(set_x87_control_word) /* single precision, round up */
{
    unsigned short control = 0x87f;
    __asm__ volatile("fldcw %0" : : "m"(control));
    return 0;
}

ATTACK(lose_callee_saved_registers)
{
    __asm__ volatile("mov 8(%%rbp), %%rcx\n"
                     "mov %%rbp, %%rsp\n"
                     "pop %%rbp\n add $8, %%rsp\n"
                     "mov $-1, %%rbx\n mov $-1, %%rbp\n mov $-1, %%r12\n"
                     "mov $-1, %%r13\n mov $-1, %%r14\n mov $-1, %%r15\n"
                     "xor %%eax, %%eax\n"
                     "jmp *%%rcx\n"
                     :
                     :
                     : "memory");
    __builtin_unreachable();
}

ATTACK(lose_stack_pointer) /* return with one that is off by a page */
{
    __asm__ volatile("mov 8(%%rbp), %%rcx\n"
                     "mov (%%rbp), %%rbp\n"
                     "sub $4096, %%rsp\n"
                     "xor %%eax, %%eax\n"
                     "jmp *%%rcx\n"
                     :
                     :
                     : "memory");
    __builtin_unreachable();
}

/* Whether the system lets programs use the instructions; else they are illegal. */
static bool has_fsgsbase(void)
{
    enum { FSGSBASE = 1 << 1 }; /* of AT_HWCAP2: asm/hwcap2.h of Linux */
    return (getauxval(AT_HWCAP2) & FSGSBASE) != 0;
}

/*
 * A copy of what FS base leads to, as the stack protector and thread-local variables of whoever is
 * returned to need something there. The target says how long it is: in the upper half how many
 * bytes lie below FS base, in the lower half how many from there on. 0: nobody knows, or no memory.
 */
static uint64_t copy_of_thread(const struct attack *attack)
{
    enum { ALIGNMENT = 64 };
    size_t below = attack->target >> 32, above = attack->target & UINT32_MAX;
    size_t begin = (below + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uint8_t *copy = above == 0 ? NULL : malloc(begin + above + ALIGNMENT);
    if (copy == NULL) {
        return 0;
    }
    uint64_t base;
    __asm__ volatile("mov %%fs:0, %0" : "=r"(base)); /* its own address */
    uint64_t other = ((uintptr_t)copy + begin + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memcpy((uint8_t *)(uintptr_t)(other - below), (uint8_t *)(uintptr_t)(base - below),
           below + above);
    memcpy((uint8_t *)(uintptr_t)other, &other, sizeof(other));
    return other;
}

ATTACK(write_fs_base)
{
    uint64_t copy = has_fsgsbase() ? copy_of_thread(attack) : 0;
    if (copy == 0) {
        return UNABLE;
    }
    __asm__ volatile("wrfsbase %0" : : "r"(copy) : "memory");
    return 0;
}

ATTACK(set_fs_base) /* by the system */
{
    enum { SET_FS = 0x1002 }; /* asm/prctl.h of Linux */
    uint64_t copy = copy_of_thread(attack);
    return copy != 0 && kernel_call(SYS_arch_prctl, SET_FS, copy) == 0 ? 0 : UNABLE;
}

ATTACK(write_gs_base)
{
    if (!has_fsgsbase()) {
        return UNABLE;
    }
    __asm__ volatile("wrgsbase %0" : : "r"(0x1234UL));
    return 0;
}

#endif
