/* After a call and after a rewind the caller's machine is as it was before. */
#include "domains.h"

#include <immintrin.h>
#include <math.h>
#include <signal.h>
#include <string.h>

struct state {
    uint64_t flags;
    uint32_t mxcsr;
    uint16_t control, status;
    uint64_t fs, gs;
    sigset_t mask;
    stack_t stack;
};

static struct state look(void)
{
    struct state now;
    memset(&now, 0, sizeof(now));
    __asm__ volatile("pushfq\n pop %0" : "=r"(now.flags));
    __asm__ volatile("stmxcsr %0" : "=m"(now.mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(now.control));
    now.fs = (uintptr_t)__builtin_thread_pointer();
    __asm__ volatile("rdgsbase %0" : "=r"(now.gs));
    CHECK(sigprocmask(SIG_BLOCK, NULL, &now.mask) == 0);
    CHECK(sigaltstack(NULL, &now.stack) == 0);
    return now;
}

static void check_same(const struct state *before)
{
    enum { AC = 1 << 18, DF = 1 << 10, TF = 1 << 8, NT = 1 << 14 };
    struct state now = look();
    CHECK_EQUAL(now.flags & (AC | DF | TF | NT), 0);
    CHECK_EQUAL(now.mxcsr & 0xffc0, before->mxcsr & 0xffc0); /* control, not the sticky status */
    CHECK_EQUAL(now.control, before->control);
    CHECK_EQUAL(now.fs, before->fs);
    CHECK_EQUAL(now.gs, before->gs);
    CHECK(memcmp(&now.mask, &before->mask, sizeof(now.mask)) == 0);
    CHECK(now.stack.ss_sp == before->stack.ss_sp);
    volatile long double third = 1.0L;
    third = third / 3; /* NaN on a full x87 stack, another value at another precision */
    CHECK(fabsl(third * 3 - 1) < 1e-18L);
    char text[64];
    memmove(text + 1, text, 40);                              /* goes the wrong way with DF */
    volatile uint32_t *odd = (volatile uint32_t *)(text + 1); /* faults with AC */
    *odd = 7;
    CHECK_EQUAL(*odd, 7);
}

static void check_after(enum foreign function, enum iso_status wanted)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    /* A rounding mode and precision of the caller's own. */
    uint32_t mxcsr = 0x3f80;
    uint16_t control = 0x0b7f;
    __asm__ volatile("ldmxcsr %0\n fldcw %1" : : "m"(mxcsr), "m"(control));
    struct state before = look();
    register uint64_t kept_12 __asm__("r12") = 0x1212121212121212;
    register uint64_t kept_15 __asm__("r15") = 0x1515151515151515;
    __asm__ volatile("" : "+r"(kept_12), "+r"(kept_15));
    for (int i = 0; i < 3; i++) {
        struct answer answer = call_number(&box, function, 0);
        CHECK_EQUAL(answer.status, wanted);
        check_same(&before);
        CHECK_WORKS(&box);
    }
    __asm__ volatile("" : "+r"(kept_12), "+r"(kept_15));
    CHECK(kept_12 == 0x1212121212121212 && kept_15 == 0x1515151515151515);
    close_box(&box);
}

TEST(a_call_that_leaves_a_mess_returns_to_a_clean_machine)
{
    check_after(hostile_dirty_state, ISO_OK);
}

TEST(so_does_a_violation)
{
    check_after(hostile_lose_fs_and_fault, ISO_VIOLATION);
}

TEST(so_does_an_ordinary_fault)
{
    check_after(hostile_write, ISO_VIOLATION);
}

TEST(so_does_a_pending_fpu_exception)
{
    check_after(hostile_pending_fpu_exception, ISO_OK);
}

TEST(so_do_flags_of_fpu_exceptions)
{
    check_after(hostile_fpu_exception_flags, ISO_OK);
}
