/* Foreign code that jumps into the runtime's handler of signals, with a stack and arguments of its
 * own choosing. */
#include "isolation.h"

#include <string.h>

#if defined(__x86_64__)

#define HOSTILE(name)                                                                              \
    int hostile_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output);       \
    int hostile_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output)

/* What the input says, 8 bytes each. */
struct jump {
    uint64_t target;
    uint64_t stack; /* where the frame seems to be: a return address, then the context */
    uint64_t number;
    uint64_t info;
    uint64_t rdx;            /* the context, or 0, as WRPKRU wants it */
    uint64_t return_address; /* the last two of forge_frame */
    uint64_t mask;
};

static struct jump read_jump(const uint8_t *input, size_t input_length)
{
    struct jump jump = {0};
    memcpy(&jump, input, input_length < sizeof(jump) ? input_length : sizeof(jump));
    return jump;
}

/* With registers as WRPKRU wants them, and the arguments where the handler keeps them, too. */
static _Noreturn void go(const struct jump *jump)
{
    uint64_t rdx = jump->rdx;
    register uint64_t r8 __asm__("r8") = jump->stack + 8;
    register uint64_t r10 __asm__("r10") = jump->number;
    register uint64_t r11 __asm__("r11") = jump->target;
    __asm__ volatile("mov %1, %%rsp\n xor %%eax, %%eax\n xor %%ecx, %%ecx\n jmp *%0"
                     :
                     : "r"(r11), "b"(jump->stack), "D"(jump->number), "S"(jump->info), "d"(rdx),
                       "r"(r8), "r"(r10)
                     : "rax", "rcx", "memory");
    __builtin_unreachable();
}

HOSTILE(jump_with)
{
    (void)output;
    struct jump jump = read_jump(input, input_length);
    go(&jump);
}

HOSTILE(forge_frame) /* where it can be written, and jump */
{
    enum { MASK = 8 + 296 }; /* of struct rt_sigframe */
    (void)output;
    struct jump jump = read_jump(input, input_length);
    uint8_t *frame = (uint8_t *)(uintptr_t)jump.stack;
    memset(frame, 0, 1024);
    memcpy(frame, &jump.return_address, sizeof(jump.return_address));
    memcpy(frame + MASK, &jump.mask, sizeof(jump.mask));
    go(&jump);
}

/* Jumps to `target`, where a WRPKRU is, with these rights in eax, so that whatever the code behind
 * it returns to or calls comes back here; then writes to the victim. */
HOSTILE(take_rights)
{
    struct {
        uint64_t target, rights, victim;
    } taking = {0};
    (void)output;
    memcpy(&taking, input, input_length < sizeof(taking) ? input_length : sizeof(taking));
    /* Registers that no gate touches. */
    register uint64_t victim __asm__("r12") = taking.victim;
    register uint64_t target __asm__("r13") = taking.target;
    __asm__ volatile("mov %%rsp, %%rbx\n"
                     "sub $128, %%rsp\n" /* the red zone */
                     "lea 1f(%%rip), %%r11\n"
                     "mov %%r11, %%r8\n" /* what a gate of PKRU-Safe calls */
                     ".rept 16\n push %%r11\n .endr\n"
                     "xor %%ecx, %%ecx\n"
                     "xor %%edx, %%edx\n"
                     "jmp *%0\n"
                     "1: mov %%rbx, %%rsp\n"
                     "movb $0x66, (%2)\n"
                     :
                     : "r"(target), "a"(taking.rights), "r"(victim)
                     : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
    return 0;
}

#endif
