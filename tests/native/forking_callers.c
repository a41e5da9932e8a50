/* The caller's program forks while sandboxes are open. */
#include "sandbox.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Copies this process: `if (in_copy(&pid)) {...; end_copy();}`. */
static bool in_copy(pid_t *pid)
{
    *pid = fork();
    CHECK(*pid >= 0);
    return *pid == 0;
}

_Noreturn static void end_copy(void)
{
    _exit(0); /* a failed check would have ended it with 1 */
}

TEST(both_processes_go_on_each_with_a_child_of_its_own)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
    CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 2);
    pid_t child = iso_pipe.process(box.sandbox);
    pid_t copy;
    if (in_copy(&copy)) {
        CHECK_EQUAL(iso_pipe.process(box.sandbox), 0);
        for (uint64_t i = 1; i <= 100; i++) {
            CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), i);
        }
        CHECK(iso_pipe.process(box.sandbox) != child);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        CHECK_WORKS(&box);
        close_box(&box);
        CHECK(has_no_children());
        end_copy();
    }
    for (uint64_t i = 3; i <= 100; i++) {
        CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), i);
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    CHECK_EQUAL(iso_pipe.process(box.sandbox), child);
    CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 101);
    close_box(&box);
}

TEST(closing_or_cancelling_in_the_copy_leaves_the_originals_child_alone)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .stays_dead = true};
        open_box(&box);
        pid_t copy;
        if (in_copy(&copy)) {
            close_box(&box);
            end_copy();
        }
        CHECK_EQUAL(exit_status_of(copy), 0);
        if (in_copy(&copy)) {
            wall->cancel(box.sandbox);
            CHECK_WORKS(&box); /* it has ended nothing */
            end_copy();
        }
        CHECK_EQUAL(exit_status_of(copy), 0);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(the_copy_outlives_the_originals_sandbox)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t copy;
    if (in_copy(&copy)) {
        char go;
        CHECK_WORKS(&box);
        CHECK(read(ends[0], &go, 1) == 1);
        CHECK_WORKS(&box);
        close_box(&box);
        end_copy();
    }
    close_box(&box);
    CHECK(write(ends[1], "", 1) == 1);
    CHECK_EQUAL(exit_status_of(copy), 0);
    close(ends[0]);
    close(ends[1]);
}

TEST(the_copy_holds_no_descriptor_of_the_originals_sandboxes)
{
    int before = open_descriptors();
    struct box boxes[5] = {{.mechanism = &iso_pipe},
                           {.mechanism = &iso_fork},
                           {.mechanism = &iso_pipe},
                           {.mechanism = &iso_pipe},
                           {.mechanism = &iso_pipe}};
    for (int i = 0; i < 5; i++) {
        open_box(&boxes[i]);
    }
    close_box(&boxes[2]);
    CHECK(open_descriptors() > before);
    pid_t copy;
    if (in_copy(&copy)) {
        CHECK_EQUAL(open_descriptors(), before);
        end_copy();
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    for (int i = 0; i < 5; i++) {
        if (i != 2) {
            close_box(&boxes[i]);
        }
    }
}

TEST(a_copy_of_a_copy_of_a_copy_goes_on)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    pid_t copy = 0;
    int generation = 0;
    while (generation < 3 && in_copy(&copy)) {
        generation++;
        CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
    }
    CHECK_WORKS(&box);
    if (generation < 3) {
        CHECK_EQUAL(exit_status_of(copy), 0);
    }
    CHECK_WORKS(&box);
    close_box(&box);
    if (generation > 0) {
        end_copy();
    }
}

TEST(a_dead_sandbox_is_dead_in_the_copy_too)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .stays_dead = true};
        open_box(&box);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        pid_t copy;
        if (in_copy(&copy)) {
            CHECK_EQUAL(call(&box, benign_echo, NULL, 0).status, ISO_DEAD);
            close_box(&box);
            end_copy();
        }
        CHECK_EQUAL(exit_status_of(copy), 0);
        close_box(&box);
    }
}

/* ---- in the middle of things ---- */

static int reverse_after_300_ms(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    sleep_ms(300);
    return foreign(benign_reverse)(input, length, output);
}

static void *call_slowly(void *box)
{
    CHECK_OUTPUT((const struct box *)box, call(box, own_function, "abc", 3), "cba", 3);
    return NULL;
}

TEST(a_fork_while_another_thread_is_in_a_call_harms_neither)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = reverse_after_300_ms};
        open_box(&box);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, call_slowly, &box) == 0);
        sleep_ms(100);
        pid_t copy;
        if (in_copy(&copy)) {
            CHECK_WORKS(&box);
            close_box(&box);
            CHECK(has_no_children());
            end_copy();
        }
        CHECK_EQUAL(exit_status_of(copy), 0);
        pthread_join(thread, NULL);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static void handle(int signal)
{
    (void)signal;
}

TEST(a_fork_while_a_call_is_interrupted_leaves_the_call_to_the_original)
{
    struct sigaction action = {.sa_handler = handle};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = reverse_after_300_ms, .stays_dead = true};
        open_box(&box);
        struct itimerval timer = {.it_value = {0, 50000}};
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        CHECK_EQUAL(call(&box, own_function, "abc", 3).status, ISO_INTERRUPTED);
        pid_t copy;
        if (in_copy(&copy)) {
            CHECK_EQUAL(resume(&box).status, ISO_BAD_ARGUMENT);
            CHECK_WORKS(&box);
            close_box(&box);
            end_copy();
        }
        pid_t other_copy;
        if (in_copy(&other_copy)) {
            CHECK_WORKS(&box); /* without a resume() between */
            close_box(&box);
            end_copy();
        }
        CHECK_OUTPUT(&box, resume(&box), "cba", 3);
        CHECK_EQUAL(exit_status_of(copy), 0);
        CHECK_EQUAL(exit_status_of(other_copy), 0);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static volatile sig_atomic_t forks;

static void fork_in_a_handler(int signal)
{
    (void)signal;
    pid_t copy = fork();
    if (copy == 0) {
        _exit(0);
    }
    if (copy > 0) {
        waitpid(copy, NULL, 0);
        forks++;
    }
}

TEST(a_handler_that_forks_may_interrupt_opening_calling_and_closing_anywhere)
{
    struct sigaction action = {.sa_handler = fork_in_a_handler};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {{0, 1300}, {0, 1300}}; /* µs */
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    uint64_t begin = now_ms();
    while (now_ms() - begin < 2000) {
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall};
            open_box(&box);
            for (int i = 0; i < 4; i++) {
                struct answer answer =
                    i % 2 ? call(&box, hostile_abort, NULL, 0) : call(&box, benign_echo, "abc", 3);
                while (answer.status == ISO_INTERRUPTED) {
                    answer = resume(&box);
                }
                if (i % 2) {
                    CHECK_SIGNAL(answer, SIGABRT);
                } else {
                    CHECK_OUTPUT(&box, answer, "abc", 3);
                }
            }
            close_box(&box);
        }
    }
    timer = (struct itimerval){0};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    CHECK(forks > 100);
}

/* ---- in the middle of a fork() ---- */

static volatile sig_atomic_t at_work; /* or done: no fork() below interrupts itself */
static volatile sig_atomic_t forked_and_opened;

static void fork_and_open_in_a_handler(int signal)
{
    (void)signal;
    struct box box = {.mechanism = &iso_pipe};
    pid_t copy = fork();
    if (copy == 0) {
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    open_box(&box);
    CHECK_WORKS(&box);
    close_box(&box);
    forked_and_opened++;
}

static void interrupt_fork(void)
{
    if (!at_work) {
        at_work = 1;
        raise(SIGUSR1);
    }
}

static struct {
    void (*prepare)(void), (*parent)(void), (*child)(void);
} within;

static void run_prepare(void)
{
    if (within.prepare != NULL) {
        within.prepare();
    }
}

static void run_parent(void)
{
    if (within.parent != NULL) {
        within.parent();
    }
}

static void run_child(void)
{
    if (within.child != NULL) {
        within.child();
    }
}

/* The first handlers of a program run in the midst of all others: these come before the library's,
 * which its constructor registers. */
__attribute__((no_sanitize("address", "undefined"))) static void register_first(void)
{
    (void)pthread_atfork(run_prepare, run_parent, run_child); /* or the tests below fail */
}
__attribute__((section(".preinit_array"), used)) static void (*at_start)(void) = register_first;

static void check_a_handler_within(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    struct sigaction action = {.sa_handler = fork_and_open_in_a_handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    within.prepare = prepare;
    within.parent = parent;
    within.child = child;
    struct box box = {.mechanism = &iso_pipe};
    at_work = 1;
    open_box(&box);
    at_work = 0;
    sigset_t before, after;
    sigprocmask(SIG_SETMASK, NULL, &before);
    pid_t copy;
    if (in_copy(&copy)) {
        CHECK_EQUAL(forked_and_opened, child != NULL);
        sigprocmask(SIG_SETMASK, NULL, &after);
        CHECK(sigismember(&after, SIGUSR1) == 0);
        at_work = 1;
        CHECK_WORKS(&box);
        close_box(&box);
        end_copy();
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    CHECK_EQUAL(forked_and_opened, child == NULL);
    sigprocmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        CHECK_EQUAL(sigismember(&after, signal), sigismember(&before, signal));
    }
    at_work = 1;
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_handler_that_interrupts_a_fork_before_it_happens_may_fork_and_open)
{
    check_a_handler_within(interrupt_fork, NULL, NULL);
}

TEST(a_handler_that_interrupts_a_fork_in_the_original_may_fork_and_open)
{
    check_a_handler_within(NULL, interrupt_fork, NULL);
}

TEST(a_handler_that_interrupts_a_fork_in_the_copy_may_fork_and_open)
{
    check_a_handler_within(NULL, NULL, interrupt_fork);
}

/* ---- a lock of the program's, which its own fork handlers take ---- */

static pthread_mutex_t programs_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool shows; /* that it is about to take it */
static atomic_bool in_prepare;

static void take_programs_lock(void)
{
    if (atomic_load(&shows)) {
        atomic_store(&in_prepare, true);
        pthread_mutex_lock(&programs_lock);
    }
}

static void leave_programs_lock(void)
{
    if (atomic_load(&shows)) {
        pthread_mutex_unlock(&programs_lock);
    }
}

static void *fork_once(void *unused)
{
    (void)unused;
    pid_t copy = fork();
    if (copy == 0) {
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
    return NULL;
}

_Noreturn static void call_under_programs_lock(void)
{
    CHECK(pthread_atfork(take_programs_lock, leave_programs_lock, leave_programs_lock) == 0);
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    pthread_mutex_lock(&programs_lock);
    atomic_store(&shows, true);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fork_once, NULL) == 0);
    while (!atomic_load(&in_prepare)) {
        sleep_ms(1);
    }
    CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
    pthread_mutex_unlock(&programs_lock);
    pthread_join(thread, NULL);
    atomic_store(&shows, false);
    CHECK_WORKS(&box);
    close_box(&box);
    end_copy();
}

TEST(a_call_may_end_its_child_under_a_lock_that_the_programs_fork_handlers_take)
{
    pid_t copy;
    if (in_copy(&copy)) {
        call_under_programs_lock();
    }
    if (!ends_soon(copy)) {
        kill(copy, SIGKILL); /* with all other signals blocked */
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
}
