/* Threads with domains of their own, and signals at any time. */
#include "domains.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, CALLS = 10000, DATA = 2000 };

static atomic_long alarms, interrupts;
static atomic_int running;
static atomic_bool has_ended[THREADS];

static void count_alarm(int signal)
{
    (void)signal;
    int error = errno;
    atomic_fetch_add(&alarms, 1);
    errno = error;
}

static void count_interrupt(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    CHECK_EQUAL(info->si_code, SI_TKILL);
    atomic_fetch_add(&interrupts, 1);
}

static void *call_and_violate(void *number)
{
    uint8_t input[DATA], wanted[DATA];
    struct box box = {.mechanism = domains[*(int *)number % 2]};
    memset(input, *(int *)number, sizeof(input));
    open_box(&box);
    for (int i = 0; i < CALLS; i++) {
        switch (i % 8) {
        case 0:
            CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
            break;
        case 3:
            CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
            break;
        case 5:
            CHECK_EQUAL(call_number(&box, hostile_system_call, 39).status, ISO_VIOLATION);
            break;
        default:
            input[i % DATA] = (uint8_t)i;
            for (int k = 0; k < DATA; k++) {
                wanted[k] = input[DATA - 1 - k];
            }
            CHECK_OUTPUT(&box, call(&box, benign_reverse, input, DATA), wanted, DATA);
        }
    }
    close_box(&box);
    atomic_store(&has_ended[*(int *)number], true);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void install_handlers(void)
{
    struct sigaction alarm = {.sa_handler = count_alarm, .sa_flags = SA_RESTART};
    struct sigaction interrupt = {.sa_sigaction = count_interrupt,
                                  .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(sigaction(SIGALRM, &alarm, NULL) == 0);
    CHECK(sigaction(SIGINT, &interrupt, NULL) == 0);
}

static void run(bool handlers_first)
{
    need_protection_keys();
    if (handlers_first) {
        install_handlers();
    }
    struct box first = {.mechanism = &iso_domain};
    open_box(&first);
    CHECK_WORKS(&first);
    close_box(&first);
    if (!handlers_first) {
        install_handlers();
    }
    pthread_t threads[THREADS];
    int numbers[THREADS];
    atomic_store(&running, THREADS);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, call_and_violate, &numbers[i]) == 0);
    }
    struct itimerval every_ms = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
    CHECK(setitimer(ITIMER_REAL, &every_ms, NULL) == 0);
    /* Ctrl-C to threads at random, each awaited: a signal that is pending merges with the next. */
    unsigned seed = 1;
    long sent = 0, lost = 0; /* to threads that were ending */
    while (atomic_load(&running) > 0 && sent < 2000) {
        seed = seed * 1103515245U + 12345U;
        long before = atomic_load(&interrupts);
        unsigned target = seed / 65536 % THREADS;
        if (atomic_load(&has_ended[target]) || pthread_kill(threads[target], SIGINT) != 0) {
            continue;
        }
        sent++;
        for (uint64_t end = now_ms() + 5000; atomic_load(&interrupts) == before;) {
            if (atomic_load(&has_ended[target])) {
                lost++;
                break;
            }
            CHECK(now_ms() < end);
            sleep_ms(1);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    struct itimerval never = {0};
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(atomic_load(&alarms) > 100);
    CHECK(atomic_load(&interrupts) > 10);
    CHECK(sent - atomic_load(&interrupts) <= lost);
}

TEST(signals_at_any_time_with_handlers_installed_before)
{
    run(true);
}

TEST(signals_at_any_time_with_handlers_installed_after)
{
    run(false);
}

/* ---- the caller's own signals ---- */

static sigjmp_buf back;

static void jump_back(int number)
{
    siglongjmp(back, number);
}

TEST(the_callers_own_faults_are_its_handlers)
{
    need_protection_keys();
    for (volatile int before = 0; before < 2; before++) {
        struct sigaction action = {.sa_handler = jump_back};
        if (before) {
            CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        }
        struct box box = {.mechanism = &iso_domain};
        open_box(&box);
        CHECK_WORKS(&box);
        if (!before) {
            CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        }
        struct sigaction told;
        CHECK(sigaction(SIGSEGV, NULL, &told) == 0);
        CHECK(told.sa_handler == jump_back);
        for (volatile int i = 0; i < 3; i++) {
            volatile int *volatile nowhere = NULL;
            if (sigsetjmp(back, 1) == 0) {
                *nowhere = 1;
                CHECK(false);
            }
            CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
            CHECK_WORKS(&box);
        }
        action.sa_handler = SIG_DFL;
        CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        close_box(&box);
    }
}

TEST(a_handler_that_leaves_foreign_code_by_longjmp_ends_its_call)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    struct box other = {.mechanism = &iso_domain};
    open_box(&box);
    open_box(&other);
    CHECK_WORKS(&box);
    struct sigaction action = {.sa_handler = jump_back};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (volatile int i = 0; i < 20; i++) {
        struct itimerval soon = {.it_value = {.tv_usec = 5000}};
        if (sigsetjmp(back, 1) == 0) {
            CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
            call(&box, hostile_loop, NULL, 0);
            CHECK(false);
        }
        CHECK_WORKS(&other);
        CHECK_WORKS(&box);
        CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    }
    close_box(&other);
    close_box(&box);
}

TEST(without_a_handler_the_callers_fault_still_kills)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    static const int signals[] = {SIGSEGV, SIGABRT, SIGTRAP};
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            volatile int *volatile nowhere = NULL;
            switch (signals[i]) {
            case SIGSEGV:
                *nowhere = 1;
                break;
            case SIGABRT:
                abort();
            default:
                __asm__ volatile("int3");
            }
            _exit(0);
        }
        CHECK_EQUAL(exit_status_of(child), 128 + signals[i]);
    }
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_system_call_is_interrupted_after_domain_calls)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    struct sigaction alarm = {.sa_handler = count_alarm};
    CHECK(sigaction(SIGALRM, &alarm, NULL) == 0);
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    struct timespec long_time = {.tv_sec = 30};
    CHECK(nanosleep(&long_time, NULL) == -1 && errno == EINTR);
    close_box(&box);
}

/* ---- one domain, two users ---- */

static void *spend_time(void *box)
{
    CHECK_TIMEOUT(call_within((const struct box *)box, 500 * MS, hostile_loop, NULL, 0));
    return NULL;
}

static struct box *shared;
static atomic_int refused;

static void call_from_a_handler(int number)
{
    (void)number;
    refused = call(shared, benign_reverse, "abc", 3).status;
}

TEST(a_domain_in_use_is_busy)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, spend_time, &box) == 0);
    sleep_ms(200);
    CHECK_EQUAL(call(&box, benign_reverse, "abc", 3).status, ISO_BUSY);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_WORKS(&box);

    shared = &box;
    struct sigaction alarm = {.sa_handler = call_from_a_handler};
    CHECK(sigaction(SIGALRM, &alarm, NULL) == 0);
    struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK_TIMEOUT(call_within(&box, 500 * MS, hostile_loop, NULL, 0));
    CHECK_EQUAL(refused, ISO_BUSY);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_child_forked_while_another_thread_is_inside_can_call)
{
    need_protection_keys();
    struct box busy = {.mechanism = &iso_domain};
    struct box own = {.mechanism = &iso_domain};
    open_box(&busy);
    open_box(&own);
    CHECK_WORKS(&own);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, spend_time, &busy) == 0);
    sleep_ms(200);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 3; i++) {
            CHECK_WORKS(&own);
            CHECK_WORKS(&busy);
            CHECK_EQUAL(call(&busy, hostile_abort, NULL, 0).status, ISO_VIOLATION);
            CHECK_EQUAL(call_number(&own, hostile_system_call, 39).status, ISO_VIOLATION);
            CHECK_TIMEOUT(call_within(&own, 10 * MS, hostile_loop, NULL, 0));
        }
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_WORKS(&busy);
    close_box(&busy);
    close_box(&own);
}
