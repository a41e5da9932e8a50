/*
 * A domain that jumps into the code of the gates, at every byte of it, with registers of its
 * choice: nothing comes of it but a violation, or the end of its own call.
 */
#include "domains.h"

#include "../../native/domain/dispositions.h"
#include "../../native/domain/gate.h"
#include "../../native/domain/signal_stack.h"
#include "../../native/pkru_safe/gate.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/*
 * Before Linux 6.12 the kernel writes a signal's frame with the rights that it interrupts. A domain
 * that gets to a WRPKRU with rights that close the signal stack ends the process, there and by any
 * other gadget.
 */
static bool stray_rights_end_the_process(void)
{
    return signal_stack_key > 0;
}

/*
 * Where the linker puts things decides whether a displacement has the byte of an IRET or a far
 * return in it. User space may execute those, and under QEMU the kernel itself then faults and
 * kills the process. A WRPKRU is always tried.
 */
static bool leads_to_far_return(const char *at)
{
    enum { REACH = 8 }; /* two instructions that are read amiss */
    static const char wrpkru[] = {0x0f, 0x01, (char)0xef};
    static const char far_returns[] = {(char)0xca, (char)0xcb, (char)0xcf};
    bool leads = false;
    for (size_t i = 0; i < sizeof(far_returns); i++) {
        leads = leads || memchr(at, far_returns[i], REACH) != NULL;
    }
    return leads && memcmp(at, wrpkru, sizeof(wrpkru)) != 0;
}

static void sweep(const struct box *box, const char *begin, const char *end)
{
    int violations = 0;
    if (stray_rights_end_the_process()) {
        return;
    }
    for (const char *at = begin; at < end; at++) {
        if (leads_to_far_return(at)) {
            continue;
        }
        static const enum foreign ways[] = {hostile_jump, hostile_jump_cleared};
        for (int way = 0; way < 2; way++) {
            struct answer answer =
                call_within(box, 500 * MS, ways[way], &at, sizeof(at)); /* some bytes loop */
            if (answer.status == ISO_OK || answer.status == ISO_FOREIGN_ERROR) {
                /* It went out by its own gate. What it says it returns is nothing that it owns. */
                box->mechanism->release(box->sandbox, &answer.reply.output);
            } else {
                if (answer.status != ISO_VIOLATION) {
                    check_failed(__FILE__, __LINE__, "at +%ld: status %d", (long)(at - begin),
                                 answer.status);
                }
                violations++;
            }
            CHECK_WORKS(box);
        }
        if ((at - begin) % 64 == 0) {
            check_pattern();
        }
    }
    check_pattern();
    CHECK(violations > 0);
}

/* At every byte, with these rights, leading back to code of the domain's own that writes where it
 * may not: to memory of the process's, and of another domain's, if there is one. */
static void take_rights(const struct box *box, const char *begin, const char *end, uint32_t rights,
                        uint8_t *others)
{
    static uint8_t own = 1;
    if (stray_rights_end_the_process()) {
        return;
    }
    for (const char *at = begin; at < end; at++) {
        if (leads_to_far_return(at)) {
            continue;
        }
        uint8_t *const victims[] = {&own, others};
        for (int i = 0; i < (others != NULL ? 2 : 1); i++) {
            uint8_t before = *victims[i];
            const uint64_t input[] = {(uintptr_t)at, rights, (uintptr_t)victims[i]};
            struct answer answer =
                call_within(box, 500 * MS, hostile_take_rights, input, sizeof(input));
            if (*victims[i] != before) {
                check_failed(__FILE__, __LINE__, "at +%ld with rights %#x: victim %d was written",
                             (long)(at - begin), rights, i);
            }
            if (answer.status == ISO_OK) {
                box->mechanism->release(box->sandbox, &answer.reply.output);
            }
            CHECK_WORKS(box);
        }
    }
}

/* Gates 0 and 1. This thread has been in the other's, and is not now. */
static void open_both(struct box *box, struct box *other)
{
    *box = *other = (struct box){.mechanism = &iso_domain};
    open_box(box);
    CHECK_WORKS(box);
    open_box(other);
    CHECK_WORKS(other);
}

static void close_both(struct box *box, struct box *other)
{
    CHECK_WORKS(other);
    close_box(other);
    close_box(box);
}

static void take_rights_of_gate(unsigned number)
{
    need_protection_keys();
    struct box box, other;
    open_both(&box, &other);
    uint8_t *others = (uint8_t *)(uintptr_t)gates[1].stack_top - 64;
    const uint32_t rights[] = {0, gates[1].pkru};
    for (int i = 0; i < 2; i++) {
        take_rights(&box, gate_code(number, gate_code_begin), gate_code(number, gate_code_end),
                    rights[i], others);
    }
    close_both(&box, &other);
}

TEST(no_rights_come_of_its_own_gate)
{
    take_rights_of_gate(0);
}

TEST(no_rights_come_of_another_domains_gate)
{
    take_rights_of_gate(1);
}

TEST(no_rights_come_of_a_gate_that_nobody_has_used)
{
    take_rights_of_gate(5);
}

static sigjmp_buf away;

static void leave(int number)
{
    (void)number;
    siglongjmp(away, 1);
}

TEST(no_rights_come_of_a_gate_whose_call_was_left_by_siglongjmp)
{
    need_protection_keys();
    struct box box, other;
    open_both(&box, &other);
    /* Linked in, the runtime sees no sigaction() of the test's. */
    CHECK(disposition_set(SIGALRM, &(struct sigaction){.sa_handler = leave}, NULL) == 0);
    if (sigsetjmp(away, 1) == 0) {
        alarm(1);
        call(&other, hostile_loop, NULL, 0);
        CHECK(false);
    }
    enum { WRPKRU_LENGTH = 3 };
    const char *const after[] = {gate_code_inside, gate_code_outside};
    const uint32_t rights[] = {0, gates[1].pkru};
    for (int i = 0; i < 4; i++) {
        const char *at = gate_code(1, after[i % 2]) - WRPKRU_LENGTH;
        take_rights(&box, at, at + 1, rights[i / 2], (uint8_t *)(uintptr_t)gates[1].stack_top - 64);
    }
    close_both(&box, &other);
}

static void take_rights_of_pkru_safe(void)
{
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    take_rights(&box, pkru_safe_begin, pkru_safe_end, 0, NULL);
    size_t last = (size_t)(PKRU_SAFE_GATES - 1) * PKRU_SAFE_STRIDE;
    take_rights(&box, pkru_safe_begin + last, pkru_safe_end + last, 0, NULL);
    close_box(&box);
}

TEST(no_rights_come_of_gates_of_pkru_safe_that_nobody_has_used)
{
    need_protection_keys();
    take_rights_of_pkru_safe();
}

TEST(no_rights_come_of_gates_of_pkru_safe_that_nobody_is_in)
{
    need_protection_keys();
    struct box trusting = {.mechanism = &iso_pkru_safe};
    open_box(&trusting);
    CHECK_WORKS(&trusting);
    take_rights_of_pkru_safe();
    close_box(&trusting);
    take_rights_of_pkru_safe();
}

TEST(no_rights_come_of_what_sets_them_outside)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    take_rights(&box, (const char *)(uintptr_t)gate_set_rights, gate_set_rights_end, 0, NULL);
    close_box(&box);
}

static void sweep_gate(unsigned number)
{
    need_protection_keys();
    struct box box, other;
    draw_pattern();
    open_both(&box, &other);
    sweep(&box, gate_code(number, gate_code_begin), gate_code(number, gate_code_end));
    close_both(&box, &other);
}

TEST(its_own_gate)
{
    sweep_gate(0);
}

TEST(another_domains_gate)
{
    sweep_gate(1);
}

TEST(a_gate_that_nobody_has_used)
{
    sweep_gate(5);
}

TEST(what_sets_rights_outside)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    draw_pattern();
    open_box(&box);
    CHECK_WORKS(&box);
    sweep(&box, (const char *)(uintptr_t)gate_set_rights, gate_set_rights_end);
    close_box(&box);
}

TEST(the_handler_of_signals)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    draw_pattern();
    open_box(&box);
    CHECK_WORKS(&box);
    const char *entry = (const char *)(uintptr_t)gate_signal_entry;
    sweep(&box, entry, gate_signal_end);
    close_box(&box);
}
