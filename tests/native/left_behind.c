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
} *left;

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
        long options = input[0] == 's' ? PTRACE_O_TRACEEXIT : 0;
        alarm(30); /* where the test fails, nobody else ends it */
        setsid();
        bool traces = ptrace(PTRACE_SEIZE, getppid(), NULL, (void *)options) == 0;
        atomic_store(&left->pid, getpid());
        atomic_store(&left->traces, traces ? 1 : 2);
        for (;;) {
            pause();
        }
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
