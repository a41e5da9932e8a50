/* Domains that jump to the handler of signals with a stack and arguments of their own choosing.
 * What they reach is a violation, whatever they say the signal was. */
#include "domains.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

struct jump {
    uint64_t target, stack, number, info, rdx, return_address, mask;
};

static void open_used(struct box *box)
{
    need_protection_keys();
    *box = (struct box){.mechanism = &iso_domain};
    draw_pattern();
    open_box(box);
    CHECK_WORKS(box);
}

/* The first WRPKRU of the handler, to which one can jump past what comes before. */
static uint64_t handlers_wrpkru(void)
{
    static const uint8_t wrpkru[] = {0x0f, 0x01, 0xef};
    const uint8_t *at = (const uint8_t *)(uintptr_t)signal_entry();
    for (size_t i = 0; i < 128; i++) {
        if (memcmp(at + i, wrpkru, sizeof(wrpkru)) == 0) {
            return (uintptr_t)(at + i);
        }
    }
    check_failed(__FILE__, __LINE__, "no WRPKRU within 128 bytes");
}

static struct jump to_entry(uint64_t stack, int64_t number)
{
    static uint8_t info[128]; /* si_code 0: somebody's kill() */
    return (struct jump){.target = signal_entry(),
                         .stack = stack,
                         .number = (uint64_t)number,
                         .info = (uintptr_t)info,
                         .rdx = stack + 8};
}

static struct jump to_wrpkru(uint64_t stack, int64_t number)
{
    struct jump jump = to_entry(stack, number);
    jump.target = handlers_wrpkru();
    jump.rdx = 0;
    return jump;
}

static void check_harmless(const struct box *box, enum foreign way, struct jump jump)
{
    struct answer answer = call(box, way, &jump, sizeof(jump));
    if (answer.status != ISO_VIOLATION) {
        check_failed(__FILE__, __LINE__, "signal %ld: status %d", (long)jump.number, answer.status);
    }
    CHECK_WORKS(box);
    check_pattern();
}

/* A stack as a signal finds it: 8 bytes off a multiple of 16. */
static uint64_t within(stack_t stack, size_t offset)
{
    return (uintptr_t)stack.ss_sp + offset / 16 * 16 - 8;
}

TEST(no_signal_that_a_domain_makes_up_reaches_the_process)
{
    struct box box;
    open_used(&box);
    stack_t stack = signal_stack();
    static const int64_t numbers[] = {SIGTERM, SIGKILL, SIGSEGV, SIGILL,  SIGSYS, SIGUSR1,
                                      SIGINT,  0,       -1,      1 << 20, 65,     32};
    const size_t offsets[] = {4096, stack.ss_size / 2, stack.ss_size - 4096, stack.ss_size - 64};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        for (size_t j = 0; j < sizeof(offsets) / sizeof(offsets[0]); j++) {
            uint64_t at = within(stack, offsets[j]);
            check_harmless(&box, hostile_jump_with, to_entry(at, numbers[i]));
            check_harmless(&box, hostile_jump_with, to_wrpkru(at, numbers[i]));
        }
    }
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++) { /* one is that of time limits */
        check_harmless(&box, hostile_jump_with, to_entry(within(stack, 1 << 20), number));
        check_harmless(&box, hostile_jump_with, to_wrpkru(within(stack, 1 << 20), number));
    }
    close_box(&box);
}

TEST(details_of_a_signal_that_lead_nowhere_are_not_read)
{
    struct box box;
    open_used(&box);
    struct jump jumps[] = {to_entry(within(signal_stack(), 1 << 20), SIGSEGV),
                           to_wrpkru(within(signal_stack(), 1 << 20), SIGSEGV)};
    for (size_t i = 0; i < 2; i++) {
        static const uint64_t nowhere[] = {0, 8, UINT64_C(1) << 63, UINT64_MAX};
        for (size_t j = 0; j < sizeof(nowhere) / sizeof(nowhere[0]); j++) {
            jumps[i].info = nowhere[j];
            check_harmless(&box, hostile_jump_with, jumps[i]);
        }
    }
    close_box(&box);
}

static volatile bool reached;

static void reach(void)
{
    reached = true;
    _exit(66);
}

/* Where domains can write signal stacks, they can lay the frame of a signal out there. */
TEST(a_forged_frame_sets_no_mask_and_is_not_returned_by)
{
    struct box box;
    open_used(&box);
    sigset_t before, after;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &before) == 0);
    for (int number = 1; number <= SIGRTMAX; number++) {
        uint64_t at = within(signal_stack(), 1 << 20);
        struct jump jumps[] = {to_entry(at, number), to_wrpkru(at, number)};
        for (size_t i = 0; i < 2; i++) {
            jumps[i].mask = UINT64_MAX;
            jumps[i].return_address = (uintptr_t)reach;
            check_harmless(&box, hostile_forge_frame, jumps[i]);
            CHECK(sigprocmask(SIG_BLOCK, NULL, &after) == 0);
            CHECK(memcmp(&before, &after, 8) == 0); /* what the kernel writes */
        }
    }
    CHECK(!reached);
    close_box(&box);
}

/* ---- another thread's signal stack ---- */

static stack_t other_stack;
static atomic_bool is_inside;

static void *stay_inside(void *argument)
{
    const struct box *box = argument;
    CHECK_WORKS(box);
    other_stack = signal_stack();
    atomic_store(&is_inside, true);
    /* The first ends in time if its thread is still known to be inside, the second if its system
     * call is still refused. */
    CHECK_TIMEOUT(call_within(box, 500 * MS, hostile_loop, NULL, 0));
    CHECK_EQUAL(call_number(box, hostile_use_heap_and_call, 256 << 20).status, ISO_VIOLATION);
    CHECK_WORKS(box);
    return NULL;
}

TEST(a_jump_onto_another_threads_signal_stack_leaves_that_thread_alone)
{
    struct box box, other = {.mechanism = &iso_domain};
    open_used(&box);
    open_box(&other);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stay_inside, &other) == 0);
    while (!atomic_load(&is_inside)) {
        sleep_ms(1);
    }
    sleep_ms(100);
    alarm(20); /* ends the test if the other one's call has no end */
    uint64_t until = now_ms() + 600;
    while (now_ms() < until) {
        uint64_t at = within(other_stack, 1 << 20);
        check_harmless(&box, hostile_jump_with, to_entry(at, SIGSEGV));
        check_harmless(&box, hostile_jump_with, to_wrpkru(at, SIGSEGV));
        check_harmless(&box, hostile_jump_with, to_wrpkru(at, SIGTERM));
    }
    CHECK(pthread_join(thread, NULL) == 0);
    alarm(0);
    close_box(&other);
    close_box(&box);
}
