/* A signal handler of the caller's program runs while a call waits. */
#include "sandbox.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

enum { LARGE = 16 << 20 };

static volatile sig_atomic_t handled;

static void handle(int signal)
{
    (void)signal;
    handled++;
}

static void handle_alarms(int flags)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
}

/* Both in ms; interval 0: once. */
static void alarm_in(unsigned first, unsigned interval)
{
    struct itimerval timer = {{interval / 1000, (long)(interval % 1000) * 1000},
                              {first / 1000, (long)(first % 1000) * 1000}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static int reverse_after_200_ms(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    sleep_ms(200);
    return foreign(benign_reverse)(input, length, output);
}

TEST(an_interrupted_call_goes_on_where_it_was)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = reverse_after_200_ms};
        open_box(&box);
        for (uint64_t limit = 0; limit <= 60000; limit += 60000) {
            alarm_in(50, 0);
            struct answer answer = call_within(&box, limit * MS, own_function, "abc", 3);
            CHECK_EQUAL(answer.status, ISO_INTERRUPTED);
            CHECK(answer.reply.output.data == NULL && answer.reply.output.length == 0);
            alarm_in(50, 0);
            answer = resume(&box);
            CHECK_EQUAL(answer.status, ISO_INTERRUPTED);
            CHECK_OUTPUT(&box, resume(&box), "cba", 3);
            CHECK_WORKS(&box);
        }
        close_box(&box);
    }
}

TEST(a_handler_that_restarts_system_calls_interrupts_no_call_without_a_limit)
{
    handle_alarms(SA_RESTART);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = reverse_after_200_ms};
        open_box(&box);
        int before = handled;
        alarm_in(20, 20);
        CHECK_OUTPUT(&box, call(&box, own_function, "abc", 3), "cba", 3);
        alarm_in(0, 0);
        CHECK(handled > before);
        close_box(&box);
    }
}

TEST(a_large_call_interrupted_all_the_time_is_right)
{
    uint8_t *bytes = malloc(LARGE);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < LARGE; i++) {
        bytes[i] = (uint8_t)(i * 7 + (i >> 12));
    }
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct itimerval timer = {{0, 300}, {0, 300}}; /* µs */
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        int interruptions = 0;
        for (int i = 0; i < 4; i++) {
            struct answer answer =
                call_within(&box, i % 2 ? 60000 * MS : 0, benign_echo, bytes, LARGE);
            while (answer.status == ISO_INTERRUPTED) {
                interruptions++;
                answer = resume(&box);
            }
            CHECK_OUTPUT(&box, answer, bytes, LARGE);
        }
        alarm_in(0, 0);
        CHECK(interruptions > 0);
        close_box(&box);
    }
    free(bytes);
}

TEST(a_request_interrupted_while_it_is_sent_goes_on_where_it_was)
{
    uint8_t *bytes = calloc(LARGE, 1);
    CHECK(bytes != NULL);
    handle_alarms(0);
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    CHECK_WORKS(&box);
    pid_t pid = iso_pipe.process(box.sandbox);
    CHECK(kill(pid, SIGSTOP) == 0); /* it reads nothing */
    alarm_in(50, 0);
    CHECK_EQUAL(call(&box, benign_echo, bytes, LARGE).status, ISO_INTERRUPTED);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK_OUTPUT(&box, resume(&box), bytes, LARGE);
    close_box(&box);
    free(bytes);
}

TEST(a_time_limit_is_for_the_whole_call_interruptions_included)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        uint64_t begin = now_ms();
        alarm_in(20, 20);
        struct answer answer = call_within(&box, 200 * MS, hostile_loop, NULL, 0);
        while (answer.status == ISO_INTERRUPTED) {
            answer = resume(&box);
        }
        CHECK_TIMEOUT(answer);
        alarm_in(0, 0);
        CHECK(now_ms() - begin >= 199 && now_ms() - begin < 400);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(an_interrupted_call_can_be_cancelled)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        alarm_in(20, 0);
        CHECK_EQUAL(call(&box, hostile_loop, NULL, 0).status, ISO_INTERRUPTED);
        wall->cancel(box.sandbox);
        CHECK_EQUAL(resume(&box).status, ISO_BAD_ARGUMENT);
        CHECK_WORKS(&box);
        CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
        close_box(&box);
    }
}

TEST(without_respawn_cancelling_ends_the_sandbox_for_good)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .stays_dead = true};
        open_box(&box);
        alarm_in(20, 0);
        CHECK_EQUAL(call(&box, hostile_loop, NULL, 0).status, ISO_INTERRUPTED);
        wall->cancel(box.sandbox);
        CHECK_EQUAL(call(&box, benign_echo, NULL, 0).status, ISO_DEAD);
        close_box(&box);
    }
}

TEST(a_call_after_one_that_was_interrupted_and_left_so_is_right)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = reverse_after_200_ms};
        open_box(&box);
        for (int i = 0; i < 3; i++) {
            alarm_in(20, 0);
            CHECK_EQUAL(call(&box, own_function, "abc", 3).status, ISO_INTERRUPTED);
            CHECK_WORKS(&box);
        }
        close_box(&box);
    }
}

TEST(an_interrupted_call_may_be_left_so_until_the_sandbox_is_closed)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        alarm_in(20, 0);
        CHECK_EQUAL(call(&box, hostile_sleep, NULL, 0).status, ISO_INTERRUPTED);
        close_box(&box);
    }
}

TEST(there_is_nothing_to_resume_where_nothing_was_interrupted)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct answer answer = resume(&box);
        CHECK_EQUAL(answer.status, ISO_BAD_ARGUMENT);
        CHECK(answer.reply.output.data == NULL && answer.reply.output.length == 0);
        CHECK_WORKS(&box);
        CHECK_EQUAL(resume(&box).status, ISO_BAD_ARGUMENT);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(finding_out_why_an_answer_broke_off_ends_however_often_it_is_interrupted)
{
    handle_alarms(0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        uint64_t begin = now_ms();
        alarm_in(20, 20);
        struct answer answer = call(&box, hostile_close_descriptors, NULL, 0);
        while (answer.status == ISO_INTERRUPTED) {
            answer = resume(&box);
        }
        CHECK_PROTOCOL(answer, "lived on");
        alarm_in(0, 0);
        CHECK(now_ms() - begin < 1000);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(violations_between_interruptions_are_told_right)
{
    handle_alarms(0);
    struct itimerval timer = {{0, 500}, {0, 500}}; /* µs */
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        for (int i = 0; i < 100; i++) {
            struct answer answer = call(&box, hostile_abort, NULL, 0);
            while (answer.status == ISO_INTERRUPTED) {
                answer = resume(&box);
            }
            CHECK_SIGNAL(answer, SIGABRT);
        }
        alarm_in(0, 0);
        close_box(&box);
    }
}

/* ---- a handler on a stack of its own ---- */

static struct box *handlers_box;
static struct answer handlers_answers[3];

static void call_in_a_handler(int signal)
{
    (void)signal;
    handlers_answers[0] = call(handlers_box, benign_reverse, "abc", 3);
    handlers_answers[1] = call(handlers_box, hostile_abort, NULL, 0);
    handlers_answers[2] = call(handlers_box, benign_reverse, "abc", 3);
}

TEST(a_handler_on_an_alternate_stack_may_call_whatever_that_forks)
{
    static uint8_t memory[1 << 17];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)}, before;
    CHECK(sigaltstack(&stack, &before) == 0);
    struct sigaction action = {.sa_handler = call_in_a_handler, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        handlers_box = &box;
        CHECK(raise(SIGUSR1) == 0);
        CHECK_OUTPUT(&box, handlers_answers[0], "cba", 3);
        CHECK_SIGNAL(handlers_answers[1], SIGABRT);
        CHECK(handlers_answers[1].reply.fault.instruction != 0);
        CHECK_OUTPUT(&box, handlers_answers[2], "cba", 3);
        close_box(&box);
    }
    CHECK(sigaltstack(&before, NULL) == 0);
}
