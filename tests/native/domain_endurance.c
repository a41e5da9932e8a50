/* What is done many thousand times leaves nothing behind. */
#include "domains.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

/* Bytes. The kernel's own count of resident pages is some dozens off. */
enum { MAY_GROW = 256 << 10 };

static void violate(const struct box *box, int times)
{
    static const struct {
        enum foreign function;
        uint64_t argument;
    } kinds[] = {
        {hostile_use_heap_and_fault, 64 << 10},
        {hostile_write, 0},
        {hostile_abort, 0},
        {hostile_divide, 0},
        {hostile_system_call, 39},
        {hostile_illegal_instruction, 0},
        {hostile_use_heap_and_fault, 200 << 10},
        {hostile_null_output, 0},
        {hostile_exit, 3},
    };
    enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    for (int i = 0; i < times; i++) {
        CHECK_EQUAL(call_number(box, kinds[i % KINDS].function, kinds[i % KINDS].argument).status,
                    ISO_VIOLATION);
        if (i % 100 == 0) {
            CHECK_WORKS(box);
        }
    }
}

TEST(a_hundred_thousand_rewinds_leave_nothing_behind)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    violate(&box, 1000);
    struct holdings before = take_stock();
    violate(&box, 100000);
    CHECK_WORKS(&box);
    check_stock(&before, MAY_GROW);
    close_box(&box);
}

static void open_and_close(int times)
{
    for (int i = 0; i < times; i++) {
        struct box box = {.mechanism = domains[i % 2]};
        open_box(&box);
        CHECK_WORKS(&box);
        if (i % 7 == 0) {
            CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
        }
        close_box(&box);
    }
}

TEST(ten_thousand_domains_one_after_the_other_leave_nothing_behind)
{
    need_protection_keys();
    open_and_close(1000);
    struct holdings before = take_stock();
    open_and_close(10000);
    check_stock(&before, MAY_GROW);
}

TEST(running_out_of_keys_is_an_error_and_nothing_is_lost)
{
    need_protection_keys();
    open_and_close(2);
    struct holdings before = take_stock();
    for (int round = 0; round < 3; round++) {
        struct box boxes[20] = {0};
        int count = 0;
        struct answer answer;
        do {
            boxes[count].mechanism = &iso_domain;
            answer = try_open(&boxes[count]);
        } while (answer.status == ISO_OK && ++count < 20);
        CHECK(count >= 8 && count < 20);
        CHECK_EQUAL(answer.status, ISO_SYSTEM_ERROR);
        CHECK_EQUAL(answer.reply.fault.system_errno, EAGAIN);
        for (int i = 0; i < count; i++) {
            CHECK_WORKS(&boxes[i]);
        }
        for (int i = 0; i < count; i++) {
            close_box(&boxes[i]);
        }
    }
    CHECK_EQUAL(take_stock().keys, before.keys);
}

static void *use_a_domain(void *box)
{
    CHECK_WORKS((const struct box *)box);
    CHECK_EQUAL(call((const struct box *)box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    return NULL;
}

static void threads(struct box *box, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, use_a_domain, box) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

TEST(threads_that_used_a_domain_leave_nothing_behind)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    threads(&box, 20);
    struct holdings before = take_stock();
    threads(&box, 2000);
    check_stock(&before, MAY_GROW);
    close_box(&box);
}

TEST(time_limits_leave_nothing_behind_and_do_not_hit_the_next_call)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    struct holdings before = {0};
    for (int i = 0; i < 600; i++) {
        if (i == 300) {
            before = take_stock();
        }
        uint64_t limit = (uint64_t)(1 + i % 20) * MS / 10;
        CHECK_TIMEOUT(call_within(&box, limit, hostile_loop, NULL, 0));
        CHECK_WORKS(&box);
        struct answer answer = call_within(&box, 1000 * MS, benign_echo, "abc", 3);
        CHECK_OUTPUT(&box, answer, "abc", 3);
    }
    check_stock(&before, MAY_GROW);
    close_box(&box);
}
