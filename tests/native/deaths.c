/* The child dies of something other than its own doing, or its death is hidden. */
#include "sandbox.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LARGE = 1 << 20 }; /* bytes: far more than a pipe holds */

static void kill_and_wait(pid_t pid, int signal)
{
    CHECK(kill(pid, signal) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

TEST(a_child_killed_while_idle_is_an_error_of_the_next_call_and_no_sigpipe)
{
    uint8_t *large = calloc(LARGE, 1);
    CHECK(large != NULL);
    signal(SIGPIPE, SIG_DFL);
    static const size_t lengths[] = {0, 1, 65536, LARGE};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct box box = {.mechanism = &iso_pipe};
        open_box(&box);
        CHECK_WORKS(&box);
        kill_and_wait(iso_pipe.process(box.sandbox), SIGKILL);
        CHECK_SIGNAL(call(&box, benign_echo, large, lengths[i]), SIGKILL);
        CHECK_OUTPUT(&box, call(&box, benign_echo, large, lengths[i]), large, lengths[i]);
        CHECK(kill(iso_pipe.process(box.sandbox), SIGKILL) == 0); /* and not waited for */
        CHECK_SIGNAL(call(&box, benign_echo, large, lengths[i]), SIGKILL);
        CHECK_WORKS(&box);
        close_box(&box);
    }
    free(large);
}

TEST(a_child_that_crashes_while_idle_is_told_by_its_signal)
{
    uint8_t *large = calloc(LARGE, 1);
    CHECK(large != NULL);
    static const int signals[] = {SIGSEGV, SIGABRT, SIGTERM};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        for (int calls = 0; calls < 2; calls++) { /* before the first call, and after it */
            for (size_t length = 0; length <= LARGE; length += LARGE) {
                struct box box = {.mechanism = &iso_pipe};
                open_box(&box);
                sleep_ms(20); /* to have set itself up */
                for (int k = 0; k < calls; k++) {
                    CHECK_WORKS(&box);
                }
                kill_and_wait(iso_pipe.process(box.sandbox), signals[i]);
                CHECK_SIGNAL(call(&box, benign_echo, large, length), signals[i]);
                CHECK_WORKS(&box);
                close_box(&box);
            }
        }
    }
    free(large);
}

TEST(a_child_killed_while_idle_is_closed_without_a_call)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    kill_and_wait(iso_pipe.process(box.sandbox), SIGKILL);
    close_box(&box);
}

static void *kill_it_soon(void *pid)
{
    sleep_ms(50);
    kill(*(pid_t *)pid, SIGKILL);
    return NULL;
}

TEST(a_child_killed_while_a_large_request_is_being_sent_is_told)
{
    uint8_t *large = calloc(LARGE, 1);
    CHECK(large != NULL);
    signal(SIGPIPE, SIG_DFL);
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    CHECK_WORKS(&box);
    pid_t pid = iso_pipe.process(box.sandbox);
    CHECK(kill(pid, SIGSTOP) == 0); /* it reads nothing */
    pthread_t killer;
    CHECK(pthread_create(&killer, NULL, kill_it_soon, &pid) == 0);
    CHECK_SIGNAL(call(&box, benign_echo, large, LARGE), SIGKILL);
    pthread_join(killer, NULL);
    CHECK_OUTPUT(&box, call(&box, benign_echo, large, LARGE), large, LARGE);
    close_box(&box);
    free(large);
}

TEST(a_child_killed_in_the_middle_of_a_call_is_told)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    pid_t pid = iso_pipe.process(box.sandbox);
    pthread_t killer;
    CHECK(pthread_create(&killer, NULL, kill_it_soon, &pid) == 0);
    CHECK_SIGNAL(call(&box, hostile_sleep, NULL, 0), SIGKILL);
    pthread_join(killer, NULL);
    CHECK_WORKS(&box);
    close_box(&box);
}

static int close_the_pipe_and_crash(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    close(answer_pipe());
    return foreign(hostile_abort)(input, length, output);
}

TEST(a_child_that_cannot_leave_a_note_is_told_by_its_signal)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = close_the_pipe_and_crash};
        open_box(&box);
        CHECK_SIGNAL(call(&box, own_function, NULL, 0), SIGABRT);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* ---- descendants ---- */

static pid_t *descendant; /* shared with the child */

static int leave_a_child_and_die(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)length;
    (void)output;
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    *descendant = pid;
    if (*input == 'r') {
        return 0;
    }
    raise(*input == 'k' ? SIGKILL : SIGSEGV);
    return 1;
}

TEST(a_descendant_that_holds_the_pipes_open_does_not_hide_the_death_from_a_call_with_a_limit)
{
    descendant = shared_memory(sizeof(*descendant));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = leave_a_child_and_die};
        open_box(&box);
        uint64_t begin = now_ms();
        CHECK_SIGNAL(call_within(&box, 5000 * MS, own_function, "k", 1), SIGKILL);
        CHECK(now_ms() - begin < 4000);
        CHECK(ends_soon(*descendant));
        CHECK_SIGNAL(call_within(&box, 5000 * MS, hostile_leave_a_child, NULL, 0), SIGKILL);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_death_note_is_enough_where_a_descendant_holds_the_pipes_open)
{
    descendant = shared_memory(sizeof(*descendant));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = leave_a_child_and_die};
        open_box(&box);
        CHECK_SIGNAL(call(&box, own_function, "s", 1), SIGSEGV);
        CHECK(ends_soon(*descendant));
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static int survive_a_crash_of_its_child(const uint8_t *input, size_t length,
                                        struct iso_bytes *output)
{
    pid_t pid = fork();
    if (pid == 0) {
        foreign(hostile_abort)(input, length, output);
    }
    int status = exit_status_of(pid);
    return status == 128 + SIGABRT ? foreign(benign_reverse)(input, length, output) : 1;
}

TEST(a_crash_of_what_a_foreign_function_forked_is_its_own_affair)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = survive_a_crash_of_its_child};
        open_box(&box);
        CHECK_OUTPUT(&box, call(&box, own_function, "abc", 3), "cba", 3);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(close_ends_what_a_foreign_function_forked)
{
    descendant = shared_memory(sizeof(*descendant));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = leave_a_child_and_die};
        open_box(&box);
        CHECK_OUTPUT(&box, call(&box, own_function, "r", 1), NULL, 0);
        close_box(&box);
        CHECK(ends_soon(*descendant));
    }
}

/* ---- the caller's program collects children of its own ---- */

TEST(a_status_that_the_callers_program_collected_is_unknown)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    for (int i = 0; i < 3; i++) {
        CHECK(kill(iso_pipe.process(box.sandbox), SIGKILL) == 0);
        CHECK(waitpid(-1, NULL, 0) > 0);
        CHECK_EXIT(call(&box, benign_echo, NULL, 0), -1);
        CHECK_WORKS(&box);
    }
    CHECK(kill(iso_pipe.process(box.sandbox), SIGKILL) == 0);
    CHECK(waitpid(-1, NULL, 0) > 0);
    close_box(&box);
}

static void check_without_statuses(void)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (int i = 0; i < 20; i++) {
            CHECK_WORKS(&box);
            CHECK_EXIT(call(&box, hostile_abort, NULL, 0), -1);
            CHECK_EXIT(call_number(&box, hostile_exit, 3), -1);
            CHECK_OUTPUT(&box, call_within(&box, 5000 * MS, benign_echo, "abc", 3), "abc", 3);
        }
        CHECK_TIMEOUT(call_within(&box, 20 * MS, hostile_loop, NULL, 0));
        CHECK_PROTOCOL(call(&box, hostile_close_descriptors, NULL, 0), "lived on");
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_program_that_ignores_sigchld_gets_its_answers)
{
    signal(SIGCHLD, SIG_IGN);
    check_without_statuses();
}

TEST(a_program_that_wants_no_zombies_gets_its_answers)
{
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    check_without_statuses();
}

static void collect_all(int signal)
{
    int before = errno;
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    errno = before;
}

TEST(a_program_whose_handler_collects_every_child_gets_its_answers)
{
    struct sigaction action = {.sa_handler = collect_all}; /* without SA_RESTART */
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (int i = 0; i < 200; i++) {
            struct answer answer =
                i % 2 ? call(&box, hostile_abort, NULL, 0) : call(&box, benign_echo, "abc", 3);
            while (answer.status == ISO_INTERRUPTED) {
                answer = resume(&box);
            }
            if (i % 2) {
                CHECK_EQUAL(answer.status, ISO_VIOLATION);
                CHECK(answer.reply.fault.violation == ISO_VIOLATION_EXIT ||
                      answer.reply.fault.violation == ISO_VIOLATION_SIGNAL);
            } else {
                CHECK_OUTPUT(&box, answer, "abc", 3);
            }
        }
        close_box(&box);
    }
}
