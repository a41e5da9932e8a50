/* The timed loops: as many calls as asked for, and an end at the first that goes wrong. */
#include "sandbox.h"

#include "../../native/measure/violations.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>

static const struct iso_mechanism *const mechanisms[] = {&iso_direct, &iso_pipe, &iso_fork};

static atomic_uint *calls_made; /* shared with the child */

static int count_and_echo(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    atomic_fetch_add(calls_made, 1);
    return foreign(benign_echo)(input, length, output);
}

static enum iso_status loop(const struct box *box, enum foreign function, const char *input,
                            struct iso_batch *batch)
{
    struct iso_request request = {
        .function = function,
        .input = (const uint8_t *)input,
        .input_length = strlen(input),
    };
    return box->mechanism->loop(box->sandbox, &request, batch);
}

TEST(a_batch_is_as_many_calls_as_asked_for_and_one_before_it)
{
    calls_made = shared_memory(sizeof(*calls_made));
    for (size_t i = 0; i < 3; i++) {
        struct box box = {.mechanism = mechanisms[i], .own = count_and_echo};
        open_box(&box);
        for (unsigned loops = 0; loops <= 100; loops += 50) {
            *calls_made = 0;
            struct iso_batch batch = {.loops = loops};
            CHECK_EQUAL(loop(&box, own_function, "abc", &batch), ISO_OK);
            CHECK_EQUAL(*calls_made, loops + 1);
            CHECK(batch.elapsed_ns > 0);
            CHECK(batch.elapsed_ns < UINT64_C(60000000000));
            CHECK_OUTPUT(&box, ((struct answer){ISO_OK, batch.last}), "abc", 3);
        }
        close_box(&box);
    }
}

static int fail_at_the_tenth(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    unsigned call_number = atomic_fetch_add(calls_made, 1) + 1;
    return call_number == 10 ? 42 : foreign(benign_echo)(input, length, output);
}

TEST(a_batch_ends_at_the_first_error)
{
    calls_made = shared_memory(sizeof(*calls_made));
    for (size_t i = 0; i < 3; i++) {
        struct box box = {.mechanism = mechanisms[i], .own = fail_at_the_tenth};
        open_box(&box);
        *calls_made = 0;
        struct iso_batch batch = {.loops = 100};
        CHECK_EQUAL(loop(&box, own_function, "abc", &batch), ISO_FOREIGN_ERROR);
        CHECK_EQUAL(*calls_made, 10);
        CHECK_EQUAL(batch.last.foreign_code, 42);
        CHECK(batch.last.output.data == NULL && batch.last.output.length == 0);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_batch_ends_at_the_first_violation)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct iso_batch batch = {.loops = 100};
        struct answer answer = {loop(&box, hostile_abort, "", &batch), batch.last};
        CHECK_SIGNAL(answer, SIGABRT);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* ---- the loop of violations ---- */

static int count_and_die(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    atomic_fetch_add(calls_made, 1);
    return foreign(hostile_write)(input, length, output);
}

static enum iso_status violations(const struct box *box, enum foreign function,
                                  struct iso_batch *batch)
{
    const uint64_t address_0 = 0;
    struct iso_request request = {
        .function = function,
        .input = (const uint8_t *)&address_0,
        .input_length = sizeof(address_0),
    };
    return iso_timed_violations(box->mechanism, box->sandbox, &request, batch);
}

TEST(a_batch_of_violations_is_as_many_calls_as_asked_for_and_one_before_it)
{
    calls_made = shared_memory(sizeof(*calls_made));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = count_and_die};
        open_box(&box);
        for (unsigned loops = 0; loops <= 20; loops += 10) {
            *calls_made = 0;
            struct iso_batch batch = {.loops = loops};
            CHECK_EQUAL(violations(&box, own_function, &batch), ISO_VIOLATION);
            CHECK_EQUAL(*calls_made, loops + 1);
            CHECK(batch.elapsed_ns > 0);
            CHECK_SIGNAL(((struct answer){ISO_VIOLATION, batch.last}), SIGSEGV);
        }
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static int return_at_the_tenth(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    unsigned call_number = atomic_fetch_add(calls_made, 1) + 1;
    return foreign(call_number == 10 ? benign_echo : hostile_write)(input, length, output);
}

TEST(a_batch_of_violations_ends_at_the_first_call_that_returns)
{
    calls_made = shared_memory(sizeof(*calls_made));
    const uint64_t address_0 = 0;
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = return_at_the_tenth};
        open_box(&box);
        *calls_made = 0;
        struct iso_batch batch = {.loops = 100};
        CHECK_EQUAL(violations(&box, own_function, &batch), ISO_OK);
        CHECK_EQUAL(*calls_made, 10);
        CHECK_OUTPUT(&box, ((struct answer){ISO_OK, batch.last}), &address_0, sizeof(address_0));
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* ---- interruptions ---- */

static void handle(int signal)
{
    (void)signal;
}

TEST(an_interrupted_batch_can_be_cancelled_or_left_so)
{
    struct sigaction action = {.sa_handler = handle};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (int i = 0; i < 4; i++) {
            struct itimerval timer = {.it_value = {0, 20000}};
            CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
            struct iso_batch batch = {.loops = UINT64_MAX};
            CHECK_EQUAL(loop(&box, hostile_sleep, "", &batch), ISO_INTERRUPTED);
            if (i % 2) {
                wall->cancel(box.sandbox);
            }
            CHECK_WORKS(&box);
        }
        close_box(&box);
    }
}

/* ---- the floor ---- */

TEST(the_floor_goes_there_and_back_whatever_the_function)
{
    struct box box = {.mechanism = &iso_floor};
    open_box(&box);
    for (int i = 0; i < 100; i++) {
        CHECK_OUTPUT(&box, call(&box, hostile_abort, "abc", 3), NULL, 0);
    }
    struct iso_batch batch = {.loops = 100};
    CHECK_EQUAL(loop(&box, benign_echo, "abc", &batch), ISO_OK);
    CHECK(batch.elapsed_ns > 0);
    CHECK(iso_floor.process(box.sandbox) > 0);
    close_box(&box);
}

TEST(the_floors_child_that_dies_is_a_violation_and_the_next_call_is_right)
{
    struct box box = {.mechanism = &iso_floor};
    open_box(&box);
    for (int i = 0; i < 10; i++) {
        CHECK_OUTPUT(&box, call(&box, benign_echo, NULL, 0), NULL, 0);
        CHECK(kill(iso_floor.process(box.sandbox), SIGKILL) == 0);
        CHECK_SIGNAL(call(&box, benign_echo, NULL, 0), SIGKILL);
    }
    CHECK_OUTPUT(&box, call(&box, benign_echo, NULL, 0), NULL, 0);
    close_box(&box);
}

TEST(the_floor_is_not_disturbed_by_signals)
{
    struct sigaction action = {.sa_handler = handle};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct box box = {.mechanism = &iso_floor};
    open_box(&box);
    struct itimerval timer = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    struct iso_batch batch = {.loops = 20000};
    CHECK_EQUAL(loop(&box, benign_echo, "", &batch), ISO_OK);
    timer = (struct itimerval){0};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    close_box(&box);
}
