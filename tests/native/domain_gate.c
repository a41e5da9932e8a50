/*
 * A domain that jumps into the code of the gates, at every byte of it, with registers of its
 * choice: nothing comes of it but a violation, or the end of its own call.
 */
#include "domains.h"

#include "../../native/domain/gate.h"
#include "../../native/domain/signal_stack.h"

#include <signal.h>

/*
 * Before Linux 6.12 the kernel writes a signal's frame with the rights that it interrupts. A domain
 * that gets to a WRPKRU with rights that close the signal stack ends the process, there and by any
 * other gadget.
 */
static bool stray_rights_end_the_process(void)
{
    return signal_stack_key > 0;
}

static void sweep(const struct box *box, const char *begin, const char *end)
{
    int violations = 0;
    if (stray_rights_end_the_process()) {
        return;
    }
    for (const char *at = begin; at < end; at++) {
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

static void sweep_gate(unsigned number)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    struct box other = {.mechanism = &iso_domain};
    draw_pattern();
    open_box(&box);
    CHECK_WORKS(&box);
    open_box(&other); /* this thread has been in the other's gate, and is not now */
    CHECK_WORKS(&other);
    sweep(&box, gate_code(number, gate_code_begin), gate_code(number, gate_code_end));
    CHECK_WORKS(&other);
    close_box(&other);
    close_box(&box);
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
