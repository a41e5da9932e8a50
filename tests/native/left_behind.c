/* Hostile code leaves processes behind that its parent would wait for, or have to collect. */
#include "sandbox.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LIMIT_MS = 100,
    /* What a child that does not die is waited for, and what a busy machine is late by. */
    LATE_MS = 200 + 200,
    KEPT = 16, /* children that are collected later; of more, the oldest are not */
};

/* Shared with the child. */
static struct {
    atomic_int pid;    /* of the process that is left behind */
    atomic_int traces; /* its ptrace() has succeeded: 1; has not: 2 */
    _Atomic uint64_t since_ms;
} *left;

/* Is what is left behind: traces a process until somebody ends it. */
static _Noreturn void trace(pid_t process, long options)
{
    alarm(30); /* where the test fails, nobody else ends it */
    setsid();
    bool traces = ptrace(PTRACE_SEIZE, process, NULL, (void *)options) == 0;
    atomic_store(&left->pid, getpid());
    atomic_store(&left->traces, traces ? 1 : 2);
    for (;;) {
        pause();
    }
}

/* ---- a child that is traced is not collected until its tracer is gone ---- */

/* The input's first byte: 'z' leaves it a zombie, 's' stops it on its way to its end. Then: 'l'
 * loops, 'r' returns, 'k' kills itself. */
static int be_traced(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    CHECK_EQUAL(length, 2);
    /* The child gave both up, and a hostile one takes them back. */
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* EINVAL: this kernel asks for no such */
    if (fork() == 0) {
        trace(getppid(), input[0] == 's' ? PTRACE_O_TRACEEXIT : 0);
    }
    while (atomic_load(&left->traces) == 0) {
        sleep_ms(1);
    }
    if (input[1] == 'r') {
        return 0;
    }
    if (input[1] == 'k') {
        raise(SIGKILL); /* at which alone no tracer stops it */
    }
    return foreign(hostile_loop)(NULL, 0, output);
}

/* Ends the tracer, which was never a child of this process: then who was traced can be collected.
 */
static void end_tracer(pid_t tracer)
{
    siginfo_t info;
    CHECK(tracer > 0 && kill(tracer, SIGKILL) == 0 && ends_soon(tracer));
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0);
}

/* Returns the tracer. */
static pid_t call_traced(const struct box *box, uint64_t limit_ms, const char *how)
{
    atomic_store(&left->traces, 0);
    uint64_t begin = now_ms();
    struct answer answer = call_within(box, limit_ms * MS, own_function, how, 2);
    uint64_t took = now_ms() - begin;
    if (atomic_load(&left->traces) == 2) {
        kill(atomic_load(&left->pid), SIGKILL);
        close_box((struct box *)box);
        skip("this machine does not let a process trace its parent");
    }
    switch (how[1]) {
    case 'r':
        CHECK_OUTPUT(box, answer, NULL, 0);
        break;
    case 'k':
        CHECK_EXIT(answer, -1); /* its tracer alone is told */
        CHECK(took < limit_ms);
        break;
    default:
        CHECK_TIMEOUT(answer);
        CHECK(took + 1 >= limit_ms);
    }
    if (took > limit_ms + LATE_MS) {
        check_failed(__FILE__, __LINE__, "it took %llu ms", (unsigned long long)took);
    }
    return atomic_load(&left->pid);
}

static void check_traced(uint64_t limit_ms, const char *how)
{
    left = shared_memory(sizeof(*left));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = be_traced};
        open_box(&box);
        pid_t tracer = call_traced(&box, limit_ms, how);
        CHECK_WORKS(&box);
        end_tracer(tracer);
        close_box(&box);
        CHECK(has_no_children()); /* what could not be collected then is now */
    }
}

TEST(a_child_whose_tracer_keeps_it_a_zombie_ends_in_time)
{
    check_traced(LIMIT_MS, "zl");
}

TEST(a_child_whose_tracer_stops_it_at_its_end_ends_in_time)
{
    check_traced(LIMIT_MS, "sl");
}

TEST(the_death_of_a_child_that_is_traced_is_told)
{
    check_traced(5000, "zk");
}

TEST(an_answer_of_a_child_that_is_traced_is_an_answer)
{
    left = shared_memory(sizeof(*left));
    struct box box = {.mechanism = &iso_fork, .own = be_traced};
    open_box(&box);
    pid_t tracer = call_traced(&box, 5000, "zr");
    CHECK_WORKS(&box);
    end_tracer(tracer);
    close_box(&box);
}

TEST(a_sandbox_whose_child_is_traced_closes)
{
    left = shared_memory(sizeof(*left));
    struct box box = {.mechanism = &iso_pipe, .own = be_traced};
    open_box(&box);
    pid_t tracer = call_traced(&box, 5000, "zr");
    uint64_t begin = now_ms();
    close_box(&box);
    CHECK(now_ms() - begin < 5000);
    end_tracer(tracer);
    open_box(&box); /* which collects it */
    CHECK(waitpid(-1, NULL, WNOHANG) == 0);
    close_box(&box);
}

TEST(children_that_cannot_be_collected_hold_a_bounded_number_of_descriptors)
{
    enum { CALLS = KEPT + 4 };
    left = shared_memory(sizeof(*left));
    pid_t tracers[CALLS];
    struct box box = {.mechanism = &iso_fork, .own = be_traced};
    open_box(&box);
    int before = open_descriptors();
    for (int i = 0; i < CALLS; i++) {
        tracers[i] = call_traced(&box, 5000, "zr");
        CHECK_EQUAL(open_descriptors(), before + (i < KEPT ? i + 1 : KEPT));
    }
    pid_t copy = fork();
    CHECK(copy >= 0);
    if (copy == 0) { /* whose children they are not */
        CHECK_EQUAL(open_descriptors(), before);
        CHECK_WORKS(&box);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    for (int i = 0; i < CALLS; i++) {
        end_tracer(tracers[i]);
    }
    CHECK_WORKS(&box);
    CHECK_EQUAL(open_descriptors(), before);
    close_box(&box);
    int zombies = 0;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
        zombies++;
    }
    CHECK_EQUAL(zombies, CALLS - KEPT);
}

/* ---- children of the parent's that the child has made ---- */

/* The input: 'r' returns, 'l' loops. */
static int make_a_sibling(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    CHECK_EQUAL(length, 1);
    long pid = syscall(SYS_clone, (long)(CLONE_PARENT | SIGCHLD), NULL, NULL, NULL, NULL);
    if (pid == 0) {
        for (;;) {
            syscall(SYS_sched_yield); /* whatever of the C library is there */
        }
    }
    CHECK(pid > 0);
    atomic_store(&left->pid, (int)pid);
    return *input == 'r' ? 0 : foreign(hostile_loop)(NULL, 0, output);
}

TEST(a_process_that_hostile_code_makes_a_child_of_its_parents_ends_and_is_collected)
{
    left = shared_memory(sizeof(*left));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = make_a_sibling};
        open_box(&box);
        CHECK_TIMEOUT(call_within(&box, LIMIT_MS * MS, own_function, "l", 1));
        CHECK(kill(atomic_load(&left->pid), 0) != 0 && errno == ESRCH);
        CHECK_OUTPUT(&box, call(&box, own_function, "r", 1), NULL, 0);
        close_box(&box);
        CHECK(kill(atomic_load(&left->pid), 0) != 0 && errno == ESRCH);
        CHECK(has_no_children());
    }
}

/* As the program may do, with a group of its own. */
TEST(a_child_of_the_callers_program_is_left_to_it)
{
    pid_t own = fork();
    CHECK(own >= 0);
    if (own == 0) {
        setpgid(0, 0);
        _exit(7);
    }
    CHECK(ends_soon(own));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK_TIMEOUT(call_within(&box, 10 * MS, hostile_loop, NULL, 0));
        CHECK_WORKS(&box);
        close_box(&box);
    }
    CHECK_EQUAL(exit_status_of(own), 7);
}

/* ---- both at once ---- */

/* A child of the caller's, made in the sandbox's group, which is stopped at its end by a tracer
 * that has left that group. The input: 'l' loops; 'c' closes all that it has, and lives on. */
static int make_a_traced_sibling(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    CHECK_EQUAL(length, 1);
    prctl(PR_SET_DUMPABLE, 1);
    atomic_int *ready = shared_memory(sizeof(*ready));
    long sibling = syscall(SYS_clone, (long)(CLONE_PARENT | SIGCHLD), NULL, NULL, NULL, NULL);
    if (sibling == 0) {
        syscall(SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        syscall(SYS_close_range, 3, ~0U, 0);
        atomic_store(ready, 1);
        for (;;) {
            syscall(SYS_sched_yield);
        }
    }
    CHECK(sibling > 0);
    while (atomic_load(ready) == 0) {
        sleep_ms(1);
    }
    if (fork() == 0) {
        syscall(SYS_close_range, 3, ~0U, 0);
        trace((pid_t)sibling, PTRACE_O_TRACEEXIT);
    }
    while (atomic_load(&left->traces) == 0) {
        sleep_ms(1);
    }
    atomic_store(&left->since_ms, now_ms());
    if (*input == 'c') {
        syscall(SYS_close_range, 3, ~0U, 0);
    }
    return foreign(hostile_loop)(NULL, 0, output);
}

static void check_traced_sibling(const char *how)
{
    left = shared_memory(sizeof(*left));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = make_a_traced_sibling};
        open_box(&box);
        atomic_store(&left->traces, 0);
        struct answer answer = call_within(&box, 1000 * MS, own_function, how, 1);
        uint64_t took = now_ms() - atomic_load(&left->since_ms);
        if (atomic_load(&left->traces) == 2) {
            kill(atomic_load(&left->pid), SIGKILL);
            close_box(&box);
            skip("this machine does not let a process trace its parent's child");
        }
        if (*how == 'c') {
            CHECK_PROTOCOL(answer, "lived on");
        } else {
            CHECK_TIMEOUT(answer);
        }
        uint64_t limit = (*how == 'c' ? 0 : 1000) + 200;
        if (took >= limit + 180) { /* each 200 ms are waited once, on a busy machine as well */
            check_failed(__FILE__, __LINE__, "it took %llu ms", (unsigned long long)took);
        }
        end_tracer(atomic_load(&left->pid));
        CHECK_WORKS(&box);
        close_box(&box);
        CHECK(has_no_children()); /* what could not be collected then is now */
    }
}

TEST(all_that_does_not_end_after_a_call_is_waited_for_together_and_collected_later)
{
    check_traced_sibling("c");
}

TEST(a_group_that_a_tracer_keeps_after_a_time_limit_is_collected_later)
{
    check_traced_sibling("l");
}

/* ---- a child that the caller's program has collected ---- */

static int leave_one_and_crash(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        syscall(SYS_close_range, 3, ~0U, 0);
        alarm(30); /* where the test fails, nobody else ends it */
        for (;;) {
            pause();
        }
    }
    atomic_store(&left->pid, pid);
    return foreign(hostile_abort)(input, length, output);
}

TEST(what_a_child_left_behind_ends_though_the_program_ignores_sigchld)
{
    enum { TO_GROUP = 4 }; /* PIDFD_SIGNAL_PROCESS_GROUP */
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK(self >= 0);
    long known = syscall(SYS_pidfd_send_signal, self, 0, NULL, TO_GROUP);
    int error = errno;
    close(self);
    if (known != 0 && error == EINVAL) {
        skip("this kernel, older than Linux 6.9, signals no group by a descriptor");
    }
    left = shared_memory(sizeof(*left));
    signal(SIGCHLD, SIG_IGN);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = leave_one_and_crash};
        open_box(&box);
        for (int i = 0; i < 10; i++) {
            struct answer answer = call(&box, own_function, NULL, 0);
            CHECK_EQUAL(answer.status, ISO_VIOLATION); /* how it died may be known, or not */
            CHECK(ends_soon(atomic_load(&left->pid)));
        }
        close_box(&box);
    }
}
