/* Limits of time, and how much a call may use. */
#include "domains.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

TEST(a_call_is_ended_after_its_time_limit_and_never_before)
{
    need_protection_keys();
    static const unsigned limits[] = {1, 2, 5, 20};
    enum { TIMES = 25 };
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        uint64_t late[TIMES];
        for (int k = 0; k < TIMES; k++) {
            uint64_t begin = now_ns();
            CHECK_TIMEOUT(call_within(&box, limits[i] * MS, hostile_loop, NULL, 0));
            uint64_t took = now_ns() - begin;
            CHECK(took >= limits[i] * MS);
            late[k] = took - limits[i] * MS;
            CHECK(late[k] < 1000 * MS); /* an emulator on a busy host */
        }
        qsort(late, TIMES, sizeof(late[0]), compare);
        CHECK(late[TIMES / 2] < 20 * MS);
    }
    close_box(&box);
}

TEST(the_longest_time_limit_is_none)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    for (int i = 0; i < 100; i++) {
        struct answer answer = call_within(&box, UINT64_MAX - (uint64_t)i, benign_echo, "abc", 3);
        CHECK_OUTPUT(&box, answer, "abc", 3);
    }
    CHECK_TIMEOUT(call_within(&box, 1, hostile_loop, NULL, 0));
    CHECK_WORKS(&box);
    close_box(&box);
}

static volatile unsigned handled;

static void take_time(int number)
{
    (void)number;
    uint64_t end = now_ns() + 300 * MS;
    while (now_ns() < end) {
    }
    handled = handled + 1;
}

TEST(a_time_limit_that_passes_in_the_programs_handler_ends_the_call_after_it)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    struct sigaction action = {.sa_handler = take_time};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (unsigned i = 1; i <= 3; i++) {
        struct itimerval soon = {.it_value = {.tv_usec = 10000}};
        CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        uint64_t begin = now_ns();
        CHECK_TIMEOUT(call_within(&box, 200 * MS, hostile_loop, NULL, 0));
        CHECK_EQUAL(handled, i);
        CHECK(now_ns() - begin >= 310 * MS);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

TEST(a_long_input_comes_back_whole)
{
    need_protection_keys();
    enum { LENGTH = 16 << 20 };
    uint8_t *input = malloc(LENGTH);
    CHECK(input != NULL);
    for (size_t i = 0; i < LENGTH; i++) {
        input[i] = (uint8_t)(i * 2654435761U >> 13);
    }
    for (int m = 0; m < 2; m++) {
        struct box box = {.mechanism = domains[m]};
        open_box(&box);
        for (int i = 0; i < 5; i++) {
            CHECK_OUTPUT(&box, call(&box, benign_echo, input, LENGTH), input, LENGTH);
            CHECK_EQUAL(call_number(&box, hostile_use_heap_and_fault, 8 << 20).status,
                        ISO_VIOLATION);
        }
        close_box(&box);
    }
    free(input);
}

TEST(an_empty_input_and_an_empty_result_are_right)
{
    need_protection_keys();
    for (int m = 0; m < 2; m++) {
        struct box box = {.mechanism = domains[m]};
        open_box(&box);
        for (int i = 0; i < 100; i++) {
            CHECK_OUTPUT(&box, call(&box, benign_echo, NULL, 0), NULL, 0);
            CHECK_OUTPUT(&box, call_number(&box, hostile_long_output, 0), NULL, 0);
            CHECK_WORKS(&box);
        }
        CHECK_EQUAL(call(&box, FUNCTION_COUNT, NULL, 0).status, ISO_BAD_ARGUMENT);
        struct answer answer = call(&box, benign_error, "\x2a", 1);
        CHECK_EQUAL(answer.status, ISO_FOREIGN_ERROR);
        CHECK_EQUAL(answer.reply.foreign_code, 42);
        close_box(&box);
    }
}

TEST(a_librarys_data_last_from_call_to_call_until_a_violation)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain}, other = {.mechanism = &iso_domain};
    open_box(&box);
    open_box(&other);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 1; i <= 5; i++) {
            CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), i);
        }
        CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    }
    CHECK_NUMBER(&other, call(&other, benign_count, NULL, 0), 1);
    close_box(&box);
    struct box next = {.mechanism = &iso_domain}; /* with the same instance of the library */
    open_box(&next);
    CHECK_NUMBER(&next, call(&next, benign_count, NULL, 0), 1);
    close_box(&next);
    close_box(&other);
}

TEST(longjmp_within_a_domain_works)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    for (int i = 0; i < 100; i++) {
        CHECK_OUTPUT(&box, call(&box, benign_throw, "abc", 3), "abc", 3);
    }
    close_box(&box);
}
