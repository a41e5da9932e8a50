/* A call with a time limit ends by then, whatever the foreign function does. */
#include "sandbox.h"

#include "../../native/process/wire.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { LATE_MS = 200 }; /* on a machine that is busy; 0.1 ms on one that is not */

static void check_ends_in_time(const struct box *box, enum foreign function, const void *input,
                               size_t length)
{
    static const unsigned limits_ms[] = {1, 10, 100};
    for (size_t i = 0; i < sizeof(limits_ms) / sizeof(limits_ms[0]); i++) {
        uint64_t begin = now_ms();
        CHECK_TIMEOUT(call_within(box, limits_ms[i] * MS, function, input, length));
        uint64_t took = now_ms() - begin;
        if (took + 1 < limits_ms[i] || took > limits_ms[i] + LATE_MS) {
            check_failed(__FILE__, __LINE__, "%u ms took %llu ms", limits_ms[i],
                         (unsigned long long)took);
        }
        CHECK_WORKS(box);
    }
}

TEST(an_endless_loop_ends_in_time)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        check_ends_in_time(&box, hostile_loop, NULL, 0);
        close_box(&box);
    }
}

TEST(a_sleep_ends_in_time)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        check_ends_in_time(&box, hostile_sleep, NULL, 0);
        close_box(&box);
    }
}

TEST(a_loop_with_all_signals_blocked_ends_in_time)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        check_ends_in_time(&box, hostile_block_signals_and_loop, NULL, 0);
        close_box(&box);
    }
}

TEST(a_child_that_stops_itself_ends_in_time)
{
    uint64_t stop = SIGSTOP;
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        check_ends_in_time(&box, hostile_raise, &stop, sizeof(stop));
        close_box(&box);
    }
}

TEST(a_request_that_nobody_reads_ends_in_time)
{
    enum { LARGE = 1 << 20 };
    uint8_t *large = calloc(LARGE, 1);
    CHECK(large != NULL);
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    CHECK(kill(iso_pipe.process(box.sandbox), SIGSTOP) == 0);
    uint64_t begin = now_ms();
    CHECK_TIMEOUT(call_within(&box, 100 * MS, benign_echo, large, LARGE));
    CHECK(now_ms() - begin <= 100 + LATE_MS);
    CHECK_OUTPUT(&box, call_within(&box, 60000 * MS, benign_echo, large, LARGE), large, LARGE);
    close_box(&box);
    free(large);
}

/* ---- a child that never stops talking ---- */

static void *talk(void *fd)
{
    while (write(*(int *)fd, "", 1) == 1) {
    }
    return NULL;
}

static int talk_without_end(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)output;
    CHECK_EQUAL(length, sizeof(struct wire_header));
    int fd = answer_pipe();
    pthread_t threads[8];
    if (write(fd, input, length) != (ssize_t)length) {
        return 1;
    }
    for (size_t i = 0; i < 8; i++) {
        if (pthread_create(&threads[i], NULL, talk, &fd) != 0) {
            return 1;
        }
    }
    pthread_join(threads[0], NULL);
    return 0;
}

TEST(an_answer_that_never_ends_does_so_in_time)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = talk_without_end};
        open_box(&box);
        struct wire_header header = {.call = 1, .length = 64 << 20}; /* of single bytes */
        uint64_t begin = now_ms();
        CHECK_TIMEOUT(call_within(&box, 50 * MS, own_function, &header, sizeof(header)));
        CHECK(now_ms() - begin < 2000); /* it takes the kernel a while to end eight busy threads */
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* ---- the limits of limits ---- */

TEST(a_limit_that_has_passed_before_anything_happens_is_a_violation)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK_TIMEOUT(call_within(&box, 1, benign_echo, "abc", 3));
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_limit_beyond_the_end_of_time_is_none)
{
    static const uint64_t limits[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2};
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
            CHECK_OUTPUT(&box, call_within(&box, limits[i], benign_echo, "abc", 3), "abc", 3);
        }
        close_box(&box);
    }
}

TEST(a_call_that_keeps_its_limit_leaves_the_child_alive)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    for (uint64_t i = 1; i <= 1000; i++) {
        CHECK_NUMBER(&box, call_within(&box, 5000 * MS, benign_count, NULL, 0), i);
    }
    close_box(&box);
}

TEST(without_respawn_a_time_out_ends_the_sandbox_for_good)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .stays_dead = true};
        open_box(&box);
        CHECK_TIMEOUT(call_within(&box, 10 * MS, hostile_loop, NULL, 0));
        CHECK_EQUAL(call(&box, benign_echo, "abc", 3).status, ISO_DEAD);
        close_box(&box);
    }
}

/* ---- a child that does not come to set itself up ---- */

static bool delays; /* the children that are forked from now on */

static void wait_in_the_child(void)
{
    if (delays) {
        sleep_ms(20000); /* as for a lock that nobody gives back */
    }
}

TEST(a_hardened_child_that_is_late_in_setting_itself_up_is_not_waited_for)
{
    require_hardening();
    CHECK(pthread_atfork(NULL, NULL, wait_in_the_child) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        delays = true;
        uint64_t begin = now_ms();
        struct answer answer = try_open(&box);
        CHECK_REFUSED(answer, ETIMEDOUT, "the child, which was late in setting itself up");
        uint64_t took = now_ms() - begin;
        CHECK(took >= 4990 && took < 6000);

        delays = false;
        open_box(&box);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        delays = true;
        begin = now_ms();
        CHECK_TIMEOUT(call_within(&box, 100 * MS, benign_echo, NULL, 0));
        CHECK(now_ms() - begin <= 100 + LATE_MS);
        if (wall == &iso_pipe) { /* that of a call is waited for as long as the call */
            CHECK_REFUSED(call(&box, benign_echo, NULL, 0), ETIMEDOUT,
                          "the child, which was late in setting itself up");
        }
        delays = false;
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_sandbox_that_stays_dead_is_dead_after_a_setup_that_was_late)
{
    require_hardening();
    CHECK(pthread_atfork(NULL, NULL, wait_in_the_child) == 0);
    struct box box = {.mechanism = &iso_pipe, .hardened = true, .stays_dead = true};
    open_box(&box);
    pid_t copy = fork();
    CHECK(copy >= 0);
    if (copy == 0) { /* whose first call starts a child */
        delays = true;
        CHECK_TIMEOUT(call_within(&box, 100 * MS, benign_echo, NULL, 0));
        CHECK_EQUAL(call(&box, benign_echo, NULL, 0).status, ISO_DEAD);
        close_box(&box);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    CHECK_WORKS(&box);
    close_box(&box);
}
