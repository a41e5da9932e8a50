/* What the child has of the process that it was forked from, and what not. */
#include "sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { RIGHT = 0, WRONG = 1 };

static void check_within(iso_function *function)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = function};
        open_box(&box);
        for (int i = 0; i < 2; i++) {
            struct answer answer = call(&box, own_function, NULL, 0);
            CHECK_EQUAL(answer.status, ISO_OK);
            CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT); /* then in a second child */
        }
        close_box(&box);
    }
}

static int check_dumpable(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    return prctl(PR_GET_DUMPABLE) == 0 ? RIGHT : WRONG;
}

TEST(the_child_dumps_no_core_wherever_the_kernel_would_send_it)
{
    check_within(check_dumpable);
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
}

static int check_privileges(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? RIGHT : WRONG;
}

TEST(the_child_cannot_become_a_program_that_its_parent_may_not_kill)
{
    int before = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    check_within(check_privileges);
    CHECK_EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), before);
}

static int check_signals(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    sigset_t mask;
    (void)input;
    (void)length;
    (void)output;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        struct sigaction action;
        if (sigismember(&mask, signal) == 1) {
            return WRONG;
        }
        if (signal == SIGUSR1 || signal == SIGUSR2 || signal == SIGPIPE) {
            sigaction(signal, NULL, &action);
            if (action.sa_handler != SIG_DFL) {
                return WRONG;
            }
        }
    }
    return RIGHT;
}

static void handle(int signal)
{
    (void)signal;
}

TEST(the_child_has_no_handler_and_no_blocked_signal_of_the_callers_program)
{
    struct sigaction action = {.sa_handler = handle};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    action.sa_handler = SIG_IGN;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && sigaction(SIGPIPE, &action, NULL) == 0);
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    check_within(check_signals);
}

static int check_group(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    return getpgrp() == getpid() ? RIGHT : WRONG;
}

TEST(the_child_has_a_process_group_of_its_own)
{
    check_within(check_group);
}

static int count_pipes(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        count += flags >= 0 && (flags & FD_CLOEXEC) != 0;
    }
    return count;
}

TEST(a_second_child_holds_no_descriptor_of_the_first)
{
    /* The program's own descriptors are inherited, those of other sandboxes are not. What is
     * counted are those that execve() closes, which here are the sandboxes' alone. */
    FOR_EACH_WALL(first_wall)
    {
        struct box first = {.mechanism = first_wall, .own = count_pipes};
        open_box(&first);
        FOR_EACH_WALL(wall)
        {
            struct box second = {.mechanism = wall, .own = count_pipes};
            struct box third = {.mechanism = wall, .own = count_pipes};
            open_box(&second);
            open_box(&third);
            int wanted = wall == &iso_pipe ? 2 : 1;
            for (int i = 0; i < 2; i++) {
                CHECK_EQUAL(call(&second, own_function, NULL, 0).reply.foreign_code, wanted);
                CHECK_EQUAL(call(&third, own_function, NULL, 0).reply.foreign_code, wanted);
                CHECK_SIGNAL(call(&second, hostile_abort, NULL, 0), SIGABRT);
            }
            close_box(&second);
            close_box(&third);
        }
        CHECK_WORKS(&first);
        close_box(&first);
    }
}

TEST(no_descriptor_of_a_sandbox_survives_execve)
{
    FOR_EACH_WALL(wall)
    {
        bool open_before[64];
        for (int fd = 0; fd < 64; fd++) {
            open_before[fd] = fcntl(fd, F_GETFD) >= 0;
        }
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK_WORKS(&box);
        for (int fd = 0; fd < 64; fd++) {
            CHECK(open_before[fd] || fcntl(fd, F_GETFD) < 0 || fcntl(fd, F_GETFD) == FD_CLOEXEC);
        }
        close_box(&box);
    }
}

static int check_cpu(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    cpu_set_t set;
    (void)output;
    CHECK_EQUAL(length, sizeof(uint64_t));
    sleep_ms(20); /* a child of one call may run a moment before it is pinned */
    return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1 &&
                   CPU_ISSET(input[0], &set)
               ? RIGHT
               : WRONG;
}

TEST(the_child_runs_on_the_cpu_that_was_asked_for)
{
    cpu_set_t mine;
    CHECK(sched_getaffinity(0, sizeof(mine), &mine) == 0);
    for (int cpu = 0; cpu < 256; cpu++) {
        if (!CPU_ISSET(cpu, &mine)) {
            continue;
        }
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall, .own = check_cpu, .pinned = true, .cpu = cpu};
            open_box(&box);
            struct answer answer = call_number(&box, own_function, (uint64_t)cpu);
            CHECK_EQUAL(answer.status, ISO_OK);
            close_box(&box);
        }
    }
    cpu_set_t after;
    CHECK(sched_getaffinity(0, sizeof(after), &after) == 0 && CPU_EQUAL(&mine, &after));
}

/* ---- a program without standard streams ---- */

static int print_and_reverse(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        ssize_t written = write(fd, "noise", 5);
        (void)written;
    }
    return foreign(benign_reverse)(input, length, output);
}

/* A daemon's. What is to be seen of it is kept until it can be told. */
static void check_without_streams(const struct iso_mechanism *wall, bool hardened)
{
    struct box box = {.mechanism = wall, .own = print_and_reverse, .hardened = hardened};
    int kept[3];
    for (int fd = 0; fd < 3; fd++) {
        kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 20);
        CHECK(kept[fd] >= 20 && close(fd) == 0);
    }
    struct answer opened = try_open(&box);
    struct answer answers[3];
    bool taken = false;
    for (int i = 0; i < 3 && opened.status == ISO_OK; i++) {
        answers[i] = call(&box, own_function, "abc", 3);
        for (int fd = 0; fd < 3; fd++) {
            taken = taken || fcntl(fd, F_GETFD) >= 0;
        }
    }
    for (int fd = 0; fd < 3; fd++) {
        dup2(kept[fd], fd); /* as if it had opened /dev/null there */
        close(kept[fd]);
    }
    CHECK_EQUAL(opened.status, ISO_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_OUTPUT(&box, answers[i], "cba", 3);
    }
    CHECK(!taken);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_sandbox_takes_no_number_of_a_standard_stream)
{
    FOR_EACH_WALL(wall)
    {
        check_without_streams(wall, false);
    }
}

TEST(a_hardened_sandbox_takes_no_number_of_a_standard_stream)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        check_without_streams(wall, true);
    }
}
