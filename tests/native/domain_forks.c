/* Processes that a process with domains starts. */
#include "domains.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void call_and_rewind(const struct box *box)
{
    CHECK_WORKS(box);
    CHECK_EQUAL(call_number(box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_WORKS(box);
    CHECK_EQUAL(call_number(box, hostile_system_call, SYS_getpid).status, ISO_VIOLATION);
    CHECK_TIMEOUT(call_within(box, 5 * MS, hostile_loop, NULL, 0));
    CHECK_EQUAL(call_number(box, hostile_use_heap_and_fault, 4 << 20).status, ISO_VIOLATION);
    CHECK_WORKS(box);
}

/* A process, its child, and so on; each calls before, between and after. */
static void descend(const struct box *box, int generations)
{
    call_and_rewind(box);
    if (generations == 0) {
        return;
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        descend(box, generations - 1);
        _exit(7);
    }
    call_and_rewind(box);
    CHECK_EQUAL(exit_status_of(child), 7);
    call_and_rewind(box);
}

TEST(parents_and_children_call_and_rewind)
{
    need_protection_keys();
    for (int m = 0; m < 2; m++) {
        struct box box = {.mechanism = domains[m]}, other = {.mechanism = domains[1 - m]};
        open_box(&box);
        open_box(&other);
        CHECK_WORKS(&other);
        descend(&box, 4);
        descend(&other, 1);
        close_box(&other);
        close_box(&box);
    }
}

TEST(what_a_child_does_to_its_domain_its_parents_does_not_see)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain_view};
    open_box(&box);
    CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
    struct answer view = call(&box, benign_reverse, "abc", 3);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(memcmp(view.reply.output.data, "cba", 3) == 0);
        CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 2);
        release(&box, &view);
        call_and_rewind(&box);
        CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
        close_box(&box);
        open_box(&box);
        call_and_rewind(&box);
        exit(0); /* with what runs at exit */
    }
    CHECK_EQUAL(exit_status_of(child), 0);
    CHECK(memcmp(view.reply.output.data, "cba", 3) == 0);
    release(&box, &view);
    CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 2);
    close_box(&box);
}

/* Which signals a program that this one starts ignores, for comparison. */
static void note_ignored(void)
{
    char line[128] = "";
    FILE *told = popen("grep SigIgn /proc/self/status", "r");
    CHECK(told != NULL && fgets(line, sizeof(line), told) != NULL);
    CHECK_EQUAL(pclose(told), 0);
    line[strcspn(line, "\n")] = '\0';
    CHECK(setenv("SIGNALS_IGNORED", line, 1) == 0);
}

TEST(other_programs_start_as_ever)
{
    need_protection_keys();
    note_ignored();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(WEXITSTATUS(system("exit 3")), 3);
        int status = system("kill -SEGV $$");
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        CHECK_EQUAL(system("test \"$(grep SigIgn /proc/self/status)\" = \"$SIGNALS_IGNORED\""), 0);
        char name[] = "sh", option[] = "-c", command[] = "exit 5";
        char *const arguments[] = {name, option, command, NULL};
        pid_t child;
        CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
        CHECK_EQUAL(exit_status_of(child), 5);
        child = vfork();
        if (child == 0) {
            execl("/bin/sh", "sh", "-c", "exit 6", (char *)NULL);
            _exit(127);
        }
        CHECK_EQUAL(exit_status_of(child), 6);
        call_and_rewind(&box);
    }
    close_box(&box);
}

/* ---- vfork() ---- */

static volatile sig_atomic_t handled;

static void count(int number)
{
    (void)number;
    handled = handled + 1;
}

TEST(what_a_child_of_vfork_sets_its_parent_keeps)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    struct sigaction action = {.sa_handler = count}, told;
    open_box(&box);
    CHECK_WORKS(&box);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t child = vfork();
    if (child == 0) { /* as subprocess does before it executes */
        signal(SIGUSR1, SIG_DFL);
        signal(SIGSEGV, SIG_IGN);
        signal(SIGUSR2, SIG_IGN);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 0);
    CHECK(sigaction(SIGUSR1, NULL, &told) == 0 && told.sa_handler == count);
    CHECK(sigaction(SIGUSR2, NULL, &told) == 0 && told.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGSEGV, NULL, &told) == 0 && told.sa_handler == SIG_DFL);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(handled, 1);
    call_and_rewind(&box);
    close_box(&box);
}

TEST(a_child_of_vfork_handles_its_signals)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    struct sigaction action = {.sa_handler = count};
    open_box(&box);
    CHECK_WORKS(&box);
    for (int on_stack = 0; on_stack < 2; on_stack++) {
        action.sa_flags = on_stack ? SA_ONSTACK : 0;
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        pid_t child = vfork();
        if (child == 0) {
            syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
            _exit(0);
        }
        CHECK_EQUAL(exit_status_of(child), 0);
        CHECK_EQUAL(handled, 1 + on_stack);
        call_and_rewind(&box);
    }
    close_box(&box);
}

/* ---- a thread that has never used a domain ---- */

static void *fork_and_call(void *box)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        call_and_rewind((const struct box *)box);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 0);
    return NULL;
}

TEST(a_thread_that_never_used_a_domain_forks)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        call_and_rewind(&box);
        CHECK(pthread_create(&thread, NULL, fork_and_call, &box) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    call_and_rewind(&box);
    close_box(&box);
}

/* ---- fork() in the middle of a call ---- */

static volatile pid_t forked;

static void fork_here(int number)
{
    (void)number;
    forked = fork();
}

static void fork_within(const struct box *box, enum foreign function, uint64_t argument,
                        uint64_t timeout_ns)
{
    struct itimerval soon = {.it_value = {.tv_usec = 5000}};
    forked = -1;
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    struct answer answer = call_within(box, timeout_ns, function, &argument, sizeof(argument));
    CHECK(forked >= 0);
    alarm(forked == 0 ? 10 : 0); /* a child whose call has no end */
    CHECK_EQUAL(answer.status, ISO_VIOLATION);
    CHECK(timeout_ns == 0 || answer.reply.fault.violation == ISO_VIOLATION_TIMEOUT);
    call_and_rewind(box);
    if (forked == 0) {
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(forked), 0);
}

TEST(a_call_goes_on_in_both_when_a_handler_forks)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    struct sigaction action = {.sa_handler = fork_here};
    open_box(&box);
    CHECK_WORKS(&box);
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        fork_within(&box, hostile_loop, 0, 50 * MS);
        /* Its system call comes when it has used its heap, much later than the fork. */
        fork_within(&box, hostile_use_heap_and_call, 100 << 20, 0);
    }
    close_box(&box);
}

static volatile bool is_child;
static volatile int steps;

static void fork_at_a_step(int number)
{
    (void)number;
    if (is_child) {
        return;
    }
    pid_t child = fork();
    is_child = child == 0;
    if (child > 0) {
        CHECK_EQUAL(exit_status_of(child), 0);
        steps++;
    }
}

/* What steps is a trap: inside the domain it is a violation, in all of the processes. */
TEST(a_handler_may_fork_between_any_two_instructions_of_a_call)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    struct sigaction action = {.sa_handler = fork_at_a_step};
    open_box(&box);
    call_and_rewind(&box);
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq" : : : "memory", "cc");
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    __asm__ volatile("pushfq\n andq $~0x100, (%%rsp)\n popfq" : : : "memory", "cc");
    CHECK_EQUAL(answer.status, ISO_VIOLATION);
    call_and_rewind(&box);
    if (is_child) {
        _exit(0);
    }
    CHECK(steps > 20);
    close_box(&box);
}
