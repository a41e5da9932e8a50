/* PKRU-Safe's gate: what it closes, what it leaves as it was, and what a jump into it comes to. */
#include "domains.h"

#include "../../native/domain/keys.h"
#include "../../native/domain/signal_stack.h"
#include "../../native/pkru_safe/gate.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void open_gate(struct box *box)
{
    need_protection_keys();
    *box = (struct box){.mechanism = &iso_pkru_safe};
    open_box(box);
    CHECK_WORKS(box);
}

static struct iso_trusted *open_secret(void)
{
    struct iso_trusted *secret;
    struct iso_fault fault;
    CHECK_EQUAL(iso_trusted_open(5000, &secret, &fault), ISO_OK);
    CHECK_EQUAL(secret->length, 8192);
    CHECK(secret->memory[0] == 0 && secret->memory[8191] == 0);
    CHECK(iso_trusted_write(secret, 0, "secret", 6));
    return secret;
}

static void check_secret(const struct iso_trusted *secret)
{
    char found[6];
    CHECK(iso_trusted_read(secret, 0, found, sizeof(found)));
    CHECK(memcmp(found, "secret", sizeof(found)) == 0);
}

/* Makes the call in a child, which must die of this signal. */
static void check_dies(const struct box *box, enum foreign function, uint64_t number, int of)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(of, SIG_DFL); /* the sanitizers catch some */
        call_number(box, function, number);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 128 + of);
}

TEST(results_and_errors_are_the_functions)
{
    struct box box;
    open_gate(&box);
    for (int i = 0; i < 3; i++) {
        struct answer answer = call(&box, benign_reverse, "abc", 3);
        CHECK_OUTPUT(&box, answer, "cba", 3);
        answer = call(&box, benign_error, "\x4d", 1);
        CHECK_EQUAL(answer.status, ISO_FOREIGN_ERROR);
        CHECK_EQUAL(answer.reply.foreign_code, 77);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

TEST(the_trusted_heap_is_closed_inside_and_open_outside)
{
    struct box box, other;
    open_gate(&box);
    open_gate(&other);
    struct iso_trusted *secret = open_secret();
    for (int i = 0; i < 3; i++) {
        check_dies(&box, hostile_read, (uintptr_t)secret->memory, SIGSEGV);
        check_dies(&box, hostile_write, (uintptr_t)secret->memory + 8191, SIGSEGV);
        check_dies(&other, hostile_write, (uintptr_t)secret->memory, SIGSEGV);
        CHECK_WORKS(&box);
        CHECK(memcmp(secret->memory, "secret", 6) == 0);
        check_secret(secret);
    }
    close_box(&other);
    iso_trusted_close(secret);
    close_box(&box);
}

/* ---- what the runtime goes by ---- */

TEST(what_the_runtime_goes_by_cannot_be_written)
{
    struct box box;
    open_gate(&box);
    struct iso_trusted *secret = open_secret();
    check_dies(&box, hostile_write, (uintptr_t)&secret->memory, SIGSEGV);
    check_dies(&box, hostile_write, (uintptr_t)&secret->length, SIGSEGV);
    for (uintptr_t offset = 0; offset < 64; offset += 8) { /* gate, number, functions */
        check_dies(&box, hostile_write, (uintptr_t)box.sandbox + offset, SIGSEGV);
    }
    check_dies(&box, hostile_read, (uintptr_t)&pkru_safe_kept, SIGSEGV);
    check_dies(&box, hostile_write, (uintptr_t)&pkru_safe_kept, SIGSEGV);
    check_dies(&box, hostile_write, (uintptr_t)&pkru_safe_mask, SIGSEGV);
    check_secret(secret);
    iso_trusted_close(secret);
    close_box(&box);
    pid_t child = fork();
    if (child == 0) { /* nor when there is no key: the next would be the one that it says */
        signal(SIGSEGV, SIG_DFL);
        *(volatile uint32_t *)&pkru_safe_mask.close = 0xc;
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 128 + SIGSEGV);
}

static int pretend_that_keys_are_modelled(const uint8_t *input, size_t length,
                                          struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    keys_modelled = true;
    return 0;
}

TEST(what_a_called_function_writes_leaves_no_later_heap_open)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_pkru_safe, .own = pretend_that_keys_are_modelled};
    open_box(&box);
    CHECK_EQUAL(call(&box, own_function, NULL, 0).status, ISO_OK);
    struct iso_trusted *secret = open_secret();
    check_dies(&box, hostile_read, (uintptr_t)secret->memory, SIGSEGV);
    check_secret(secret);
    keys_modelled = false;
    iso_trusted_close(secret);
    close_box(&box);
}

/* Changes what its callers keep in registers wherever that is the number of the last gate. */
static int change_number(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    __asm__ volatile(
        "cmp %[last], %%rbx\n cmove %[other], %%rbx\n"
        "cmp %[last], %%r12\n cmove %[other], %%r12\n"
        "cmp %[last], %%r13\n cmove %[other], %%r13\n"
        "cmp %[last], %%r14\n cmove %[other], %%r14\n"
        "cmp %[last], %%r15\n cmove %[other], %%r15\n" ::[last] "a"(PKRU_SAFE_GATES - 1ULL),
        [other] "d"(1ULL)
        : "cc"); /* and registers that the ABI says are to be preserved: untold */
    return 0;
}

TEST(a_called_function_has_no_say_in_which_rights_its_callers_thread_gets_back)
{
    need_protection_keys();
    struct box boxes[PKRU_SAFE_GATES];
    for (int i = 0; i < PKRU_SAFE_GATES; i++) {
        boxes[i] = (struct box){.mechanism = &iso_pkru_safe, .own = change_number};
        open_box(&boxes[i]);
    }
    uint32_t before = read_pkru();
    write_pkru(0x55555554); /* the heap is lent for the call */
    struct answer answer = call(&boxes[PKRU_SAFE_GATES - 1], own_function, NULL, 0);
    CHECK_EQUAL(read_pkru(), 0x55555554);
    CHECK_EQUAL(answer.status, ISO_OK);
    write_pkru(before);
    for (int i = 0; i < PKRU_SAFE_GATES; i++) {
        close_box(&boxes[i]);
    }
}

/* ---- what it leaves alone ---- */

TEST(ordinary_memory_is_shared)
{
    struct box box;
    open_gate(&box);
    uint8_t *memory = calloc(1, 64);
    CHECK(memory != NULL);
    CHECK_EQUAL(call_number(&box, hostile_write, (uintptr_t)memory).status, ISO_OK);
    CHECK(memory[0] == 0x66);
    free(memory);
    close_box(&box);
}

/* ---- rights ---- */

static uint32_t rights_inside;

static int note_rights(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    rights_inside = read_pkru();
    return 0;
}

static void check_rights(const struct box *box, uint32_t rights)
{
    uint32_t before = read_pkru();
    write_pkru(rights);
    struct answer answer = call(box, own_function, NULL, 0);
    uint32_t after = read_pkru();
    write_pkru(before);
    CHECK_EQUAL(answer.status, ISO_OK);
    CHECK_EQUAL(after, rights);
    CHECK_EQUAL(rights_inside, rights | pkru_safe_mask.close);
}

TEST(rights_outside_are_as_before_whatever_they_were)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_pkru_safe, .own = note_rights};
    open_box(&box);
    uint32_t own = read_pkru();
    CHECK_EQUAL(own & pkru_safe_mask.close, 0);
    check_rights(&box, own);
    check_rights(&box, PKRU_ALL);
    check_rights(&box, 0x55555554); /* as Linux starts programs: the heap is lent for the call */
    check_rights(&box, 0xfffffffc);
    for (uint32_t i = 0; i < 1000; i++) {
        check_rights(&box, (i * 2654435761U) & ~3U);
    }
    CHECK_EQUAL(read_pkru(), own);
    close_box(&box);
}

static void *call_without_rights(void *argument)
{
    const struct box *box = argument;
    write_pkru(0x55555554);
    for (int i = 0; i < 3; i++) {
        CHECK_WORKS(box);
        CHECK_EQUAL(read_pkru(), 0x55555554);
    }
    return NULL;
}

TEST(a_thread_without_rights_to_the_heap_calls_and_reads_the_heap)
{
    struct box box;
    open_gate(&box);
    struct iso_trusted *secret = open_secret();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, call_without_rights, &box) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    uint32_t before = read_pkru();
    write_pkru(0x55555554);
    check_secret(secret);
    CHECK_EQUAL(read_pkru(), 0x55555554);
    check_dies(&box, hostile_read, (uintptr_t)secret->memory, SIGSEGV);
    write_pkru(before);
    iso_trusted_close(secret);
    close_box(&box);
}

/* ---- jumps into it ---- */

TEST(a_jump_to_an_instruction_that_changes_rights_traps)
{
    struct box box;
    open_gate(&box);
    CHECK(read_pkru() != PKRU_ALL); /* or the rights that the jump brings were the right ones */
    check_dies(&box, hostile_jump_cleared, (uintptr_t)pkru_safe_commit, SIGILL);
    check_dies(&box, hostile_jump_cleared, (uintptr_t)pkru_safe_return, SIGILL);
    check_dies(&box, hostile_jump_cleared, (uintptr_t)pkru_safe_commit + PKRU_SAFE_STRIDE, SIGILL);
    check_dies(&box, hostile_jump_cleared, (uintptr_t)pkru_safe_return + PKRU_SAFE_STRIDE, SIGILL);
    close_box(&box);
}

/* The instructions of this gate are there for domains of native/domain, too. */
TEST(a_domain_that_jumps_to_any_byte_of_it_gains_nothing)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain}, gate;
    draw_pattern();
    open_box(&box);
    CHECK_WORKS(&box);
    open_gate(&gate);
    struct iso_trusted *secret = open_secret();
    int violations = 0;
    for (const char *at = pkru_safe_begin; at < pkru_safe_end && signal_stack_key == 0; at++) {
        static const enum foreign ways[] = {hostile_jump, hostile_jump_cleared};
        for (int way = 0; way < 2; way++) {
            struct answer answer = call_within(&box, 500 * MS, ways[way], &at, sizeof(at));
            if (answer.status == ISO_OK || answer.status == ISO_FOREIGN_ERROR) {
                release(&box, &answer); /* it went out by its own gate */
                continue;
            }
            if (answer.status != ISO_VIOLATION) {
                check_failed(__FILE__, __LINE__, "at +%ld: status %d", (long)(at - pkru_safe_begin),
                             answer.status);
            }
            violations++;
        }
        CHECK_WORKS(&box);
        CHECK_WORKS(&gate);
        check_secret(secret);
    }
    CHECK(violations > 0 || signal_stack_key > 0);
    check_pattern();
    iso_trusted_close(secret);
    close_box(&gate);
    close_box(&box);
}

/* ---- what it holds ---- */

TEST(closing_gives_key_and_memory_back)
{
    struct box box;
    struct holdings before = {0};
    for (int round = 0; round < 120; round++) {
        if (round == 20) { /* the allocator has what it needs by then */
            before = take_stock();
        }
        open_gate(&box);
        struct iso_trusted *secret = open_secret();
        close_box(&box);
        check_secret(secret); /* it outlives sandboxes */
        iso_trusted_close(secret);
    }
    check_stock(&before, 256 << 10); /* the kernel counts in batches; 100 heaps are 800 KiB */
}

TEST(what_is_not_within_the_heap_is_refused)
{
    need_protection_keys();
    struct iso_fault fault;
    struct iso_trusted *heap;
    char byte = 0;
    CHECK_EQUAL(iso_trusted_open(0, &heap, &fault), ISO_SYSTEM_ERROR);
    CHECK(heap == NULL && fault.what != NULL);
    CHECK_EQUAL(iso_trusted_open(SIZE_MAX, &heap, &fault), ISO_SYSTEM_ERROR);
    CHECK(heap == NULL && fault.what != NULL);
    heap = open_secret();
    CHECK(iso_trusted_read(heap, 8191, &byte, 1));
    CHECK(!iso_trusted_read(heap, 8192, &byte, 1));
    CHECK(!iso_trusted_write(heap, SIZE_MAX, &byte, 2));
    iso_trusted_close(heap);
}

TEST(gates_that_are_all_taken_are_an_error)
{
    need_protection_keys();
    struct box boxes[PKRU_SAFE_GATES];
    for (int i = 0; i < PKRU_SAFE_GATES; i++) {
        open_gate(&boxes[i]);
    }
    struct box one_more = {.mechanism = &iso_pkru_safe};
    CHECK_REFUSED(try_open(&one_more), EAGAIN,
                  "32 sandboxes of PKRU-Safe are open: close one first");
    for (int i = 0; i < PKRU_SAFE_GATES; i++) {
        CHECK_WORKS(&boxes[i]);
        close_box(&boxes[i]);
    }
}
