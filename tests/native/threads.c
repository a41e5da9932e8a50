/* Several threads, each with sandboxes of its own. */
#include "sandbox.h"

#include "../../native/process/child.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, DURATION_MS = 1500 };

static atomic_bool statuses_are_known = true;
static uint64_t end_ms;

static void check_violation_or_lost_status(struct answer answer, int signal)
{
    if (!statuses_are_known && answer.reply.fault.violation == ISO_VIOLATION_EXIT) {
        CHECK_EXIT(answer, -1);
    } else {
        CHECK_SIGNAL(answer, signal);
    }
}

static void *open_violate_close(void *number)
{
    uint8_t input[5000];
    memset(input, *(int *)number, sizeof(input));
    while (now_ms() < end_ms) {
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall};
            open_box(&box);
            for (int i = 0; i < 3; i++) {
                CHECK_OUTPUT(&box, call(&box, benign_echo, input, sizeof(input)), input,
                             sizeof(input));
                check_violation_or_lost_status(call(&box, hostile_abort, NULL, 0), SIGABRT);
                CHECK_OUTPUT(&box, call_within(&box, 5000 * MS, benign_echo, input, 100), input,
                             100);
                check_violation_or_lost_status(call_number(&box, hostile_raise, SIGKILL), SIGKILL);
            }
            CHECK_TIMEOUT(call_within(&box, MS, hostile_loop, NULL, 0));
            close_box(&box);
        }
    }
    return NULL;
}

static void run_threads(void (*meanwhile)(void))
{
#if defined(__SANITIZE_ADDRESS__)
    skip("AddressSanitizer's allocator knows no fork() in a program with threads: the child hangs");
#endif
    pthread_t threads[THREADS];
    int numbers[THREADS];
    end_ms = now_ms() + DURATION_MS;
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i + 1;
        CHECK(pthread_create(&threads[i], NULL, open_violate_close, &numbers[i]) == 0);
    }
    while (now_ms() < end_ms) {
        meanwhile();
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void wait_a_little(void)
{
    sleep_ms(10);
}

TEST(threads_with_a_sandbox_each_do_not_disturb_one_another)
{
    run_threads(wait_a_little);
}

static void fork_a_copy_that_uses_a_sandbox(void)
{
    pid_t copy = fork();
    CHECK(copy >= 0);
    if (copy == 0) {
        struct box box = {.mechanism = &iso_pipe};
        open_box(&box);
        CHECK_WORKS(&box);
        close_box(&box);
        CHECK(has_no_children());
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(copy), 0);
}

TEST(threads_with_a_sandbox_each_bear_a_program_that_forks)
{
    run_threads(fork_a_copy_that_uses_a_sandbox);
}

static void collect_any_child(void)
{
    if (waitpid(-1, NULL, WNOHANG) <= 0) {
        sleep_ms(0);
    }
}

TEST(threads_with_a_sandbox_each_bear_a_program_that_collects_every_child)
{
    statuses_are_known = false;
    run_threads(collect_any_child);
}

static void *kill_again_and_again(void *unused)
{
    (void)unused;
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    while (now_ms() < end_ms) {
        uint64_t begin = now_ms();
        CHECK_SIGNAL(call_number(&box, hostile_raise, SIGKILL), SIGKILL);
        CHECK(now_ms() - begin < 1000);
    }
    close_box(&box);
    return NULL;
}

TEST(a_copy_made_at_any_moment_holds_no_childs_pipe_open)
{
    enum { COPIES = 50 };
    pid_t copies[COPIES];
    pthread_t thread;
    end_ms = now_ms() + 1000;
    CHECK(pthread_create(&thread, NULL, kill_again_and_again, NULL) == 0);
    for (int i = 0; i < COPIES; i++) {
        copies[i] = fork();
        CHECK(copies[i] >= 0);
        if (copies[i] == 0) {
            sleep_ms(3000);
            _exit(0);
        }
        sleep_ms(10);
    }
    pthread_join(thread, NULL); /* or a call has waited for a copy to end */
    for (int i = 0; i < COPIES; i++) {
        kill(copies[i], SIGKILL);
        exit_status_of(copies[i]);
    }
}

static void *call_again_and_again(void *unused)
{
    (void)unused;
    struct box box = {.mechanism = &iso_fork}; /* a child a call */
    open_box(&box);
    while (now_ms() < end_ms) {
        CHECK_WORKS(&box);
    }
    close_box(&box);
    return NULL;
}

/* Forks copies while another thread starts children; `in_copy` says whether a copy is right. */
static void fork_copies_for(unsigned duration_ms, bool (*in_copy)(void))
{
#if defined(__SANITIZE_ADDRESS__)
    skip("AddressSanitizer's allocator knows no fork() in a program with threads: the child hangs");
#endif
    pthread_t thread;
    end_ms = now_ms() + duration_ms;
    CHECK(pthread_create(&thread, NULL, call_again_and_again, NULL) == 0);
    while (now_ms() < end_ms) {
        pid_t copy = fork();
        CHECK(copy >= 0);
        if (copy == 0) {
            _exit(in_copy() ? 0 : 1);
        }
        CHECK_EQUAL(exit_status_of(copy), 0);
    }
    pthread_join(thread, NULL);
}

static int descriptors_before;

static bool has_no_more_descriptors(void)
{
    return open_descriptors() == descriptors_before;
}

TEST(a_copy_made_at_any_moment_holds_no_descriptor_of_a_sandbox)
{
    descriptors_before = open_descriptors();
    fork_copies_for(1000, has_no_more_descriptors);
}

/* ---- fork handlers that are not ours ---- */

static pthread_mutex_t others = PTHREAD_MUTEX_INITIALIZER;

static void acquire(void)
{
    pthread_mutex_lock(&others);
    sleep_ms(1); /* the other thread comes to where it locks */
}

static void release_others(void)
{
    pthread_mutex_unlock(&others);
}

static bool is_right(void)
{
    return true;
}

TEST(a_lock_that_a_later_fork_handler_takes_stops_neither_a_fork_nor_a_start)
{
    struct box box = {.mechanism = &iso_fork};
    open_box(&box);
    CHECK_WORKS(&box); /* the wall's handlers are there: those that come now run before */
    close_box(&box);
    CHECK(pthread_atfork(acquire, release_others, release_others) == 0);
    alarm(20); /* where it does stop them */
    fork_copies_for(500, is_right);
    alarm(0);
}

/* ---- glibc's lock of exit handlers ---- */

#if defined(__GLIBC__)
void __cxa_finalize(void *library); /* of the C++ ABI; no header has it */

static atomic_bool done;

/* Holds that lock nearly all the time. */
static void *look_through_exit_handlers(void *unused)
{
    static char no_library;
    while (!atomic_load(&done)) {
        __cxa_finalize(&no_library);
    }
    return unused;
}

/* Returns whether the child gave up, which it does in the place of hanging. */
static bool gives_up(struct box *box)
{
    struct answer answer = try_open(box);
    if (answer.status != ISO_OK) {
        CHECK_REFUSED(answer, ECHILD, "the child, which died while setting itself up");
        return true;
    }
    answer = call(box, benign_echo, "abc", 3);
    bool gave_up = answer.status == ISO_VIOLATION;
    if (gave_up) {
        CHECK_EXIT(answer, CHILD_EXIT_SETUP);
    } else {
        CHECK_OUTPUT(box, answer, "abc", 3);
    }
    close_box(box);
    return gave_up;
}

TEST(a_child_forked_while_exit_handlers_are_locked_gives_up_in_time)
{
#if defined(__SANITIZE_ADDRESS__)
    skip("AddressSanitizer's allocator knows no fork() in a program with threads: the child hangs");
#endif
    enum { TRIES = 1000 };
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, look_through_exit_handlers, NULL) == 0);
    for (int hardened = 0; hardened < (iso_hardening_here() == ISO_HARDENING_HERE ? 2 : 1);
         hardened++) {
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall, .hardened = hardened != 0};
            int tries = 0;
            while (!gives_up(&box)) {
                CHECK(++tries < TRIES); /* or the thread is not in its way */
            }
        }
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    struct box box = {.mechanism = &iso_pipe};
    CHECK(!gives_up(&box));
}
#endif
