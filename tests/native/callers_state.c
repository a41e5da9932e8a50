/* Whatever a sandbox does, the caller's process stays as it was. */
#include "sandbox.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct state {
    sigset_t mask;
    sigset_t pending;
    struct sigaction actions[65];
    stack_t stack;
    struct rlimit core;
    pid_t group;
    int dumpable;
    int no_new_privileges;
    int death_signal;
};

static struct state state_now(void)
{
    struct state state;
    memset(&state, 0, sizeof(state));
    CHECK(sigprocmask(SIG_SETMASK, NULL, &state.mask) == 0);
    CHECK(sigpending(&state.pending) == 0);
    sigdelset(&state.pending, SIGCHLD);
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        sigaction(signal, NULL, &state.actions[signal]);
    }
    CHECK(sigaltstack(NULL, &state.stack) == 0);
    CHECK(getrlimit(RLIMIT_CORE, &state.core) == 0);
    state.group = getpgrp();
    state.dumpable = prctl(PR_GET_DUMPABLE);
    state.no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    CHECK(prctl(PR_GET_PDEATHSIG, &state.death_signal) == 0);
    return state;
}

static void check_unchanged(const struct state *before)
{
    struct state after = state_now();
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        CHECK_EQUAL(sigismember(&after.mask, signal), sigismember(&before->mask, signal));
        CHECK_EQUAL(sigismember(&after.pending, signal), sigismember(&before->pending, signal));
        const struct sigaction *now = &after.actions[signal];
        const struct sigaction *then = &before->actions[signal];
        CHECK(now->sa_handler == then->sa_handler && now->sa_flags == then->sa_flags);
    }
    CHECK(after.stack.ss_sp == before->stack.ss_sp);
    CHECK_EQUAL(after.stack.ss_size, before->stack.ss_size);
    CHECK_EQUAL(after.stack.ss_flags, before->stack.ss_flags);
    CHECK_EQUAL(after.core.rlim_cur, before->core.rlim_cur);
    CHECK_EQUAL(after.core.rlim_max, before->core.rlim_max);
    CHECK_EQUAL(after.group, before->group);
    CHECK_EQUAL(after.dumpable, before->dumpable);
    CHECK_EQUAL(after.no_new_privileges, before->no_new_privileges);
    CHECK_EQUAL(after.death_signal, before->death_signal);
}

static void handle(int signal)
{
    (void)signal;
}

static void handle_with_information(int signal, siginfo_t *information, void *context)
{
    (void)signal;
    (void)information;
    (void)context;
}

TEST(signals_limits_and_process_attributes_are_the_same_after_every_kind_of_call)
{
    static uint8_t stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    CHECK(sigaltstack(&alternate, NULL) == 0);
    struct sigaction action = {.sa_sigaction = handle_with_information,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    action = (struct sigaction){.sa_handler = handle, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGRTMAX, &action, NULL) == 0);
    action.sa_handler = SIG_IGN;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGRTMIN + 3);
    CHECK(sigprocmask(SIG_SETMASK, &some, NULL) == 0);
    raise(SIGUSR1); /* pending */

    FOR_EACH_WALL(wall)
    {
        struct state before = state_now();
        struct box box = {.mechanism = wall};
        open_box(&box);
        check_unchanged(&before);
        CHECK_WORKS(&box);
        check_unchanged(&before);
        CHECK_SIGNAL(call_number(&box, hostile_write, 0), SIGSEGV);
        check_unchanged(&before);
        CHECK_SIGNAL(call(&box, hostile_stack_overflow, NULL, 0), SIGSEGV);
        check_unchanged(&before);
        CHECK_TIMEOUT(call_within(&box, 5 * MS, hostile_loop, NULL, 0));
        check_unchanged(&before);
        CHECK_PROTOCOL(call(&box, hostile_close_descriptors, NULL, 0), "lived on");
        check_unchanged(&before);
        CHECK_OUTPUT(&box, call_within(&box, 5000 * MS, benign_echo, "abc", 3), "abc", 3);
        check_unchanged(&before);
        close_box(&box);
        check_unchanged(&before);
    }
}

static int number_of_threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    CHECK(directory != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

TEST(a_sandbox_starts_no_thread)
{
    int before = number_of_threads();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK_WORKS(&box);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        CHECK_EQUAL(number_of_threads(), before);
        close_box(&box);
    }
}

TEST(the_callers_memory_is_as_before_a_foreign_function_wrote_to_it)
{
    uint8_t *heap = malloc(1);
    uint8_t local = 1;
    static uint8_t data = 1;
    CHECK(heap != NULL);
    *heap = 1;
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        uint8_t *const places[] = {heap, &local, &data};
        for (int i = 0; i < 3; i++) {
            CHECK_OUTPUT(&box, call_number(&box, hostile_write, (uintptr_t)places[i]), NULL, 0);
            CHECK_EQUAL(*(volatile uint8_t *)places[i], 1);
        }
        close_box(&box);
    }
    free(heap);
}
