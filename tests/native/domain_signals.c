/* The program's signals are its own, whatever the runtime has the kernel call. */
#include "domains.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static atomic_int handled;

static void count(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void count_with_details(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    count(number);
}

static void open_used(struct box *box)
{
    *box = (struct box){.mechanism = &iso_domain};
    open_box(box);
    CHECK_WORKS(box);
    CHECK_EQUAL(call_number(box, hostile_write, 0).status, ISO_VIOLATION);
}

static void alarm_in_ms(unsigned milliseconds)
{
    struct itimerval soon = {.it_value = {.tv_usec = (suseconds_t)milliseconds * 1000}};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
}

static void install(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(number, &action, NULL) == 0);
}

/* ---- what the program is told ---- */

TEST(the_program_is_told_what_it_has_set_itself)
{
    need_protection_keys();
    static uint8_t stack[1 << 16];
    struct box box;
    struct sigaction told, usr1 = {.sa_sigaction = count_with_details, .sa_flags = SA_SIGINFO};
    sigaddset(&usr1.sa_mask, SIGHUP);
    CHECK(sigaction(SIGUSR1, &usr1, NULL) == 0); /* before the first domain, and */
    open_used(&box);
    for (int i = 0; i < 2; i++) {
        CHECK(sigaction(SIGUSR1, NULL, &told) == 0);
        CHECK(told.sa_sigaction == count_with_details);
        CHECK((told.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_NODEFER)) == SA_SIGINFO);
        CHECK(sigismember(&told.sa_mask, SIGHUP) == 1 && sigismember(&told.sa_mask, SIGINT) == 0);
        CHECK(sigaction(SIGUSR1, &usr1, NULL) == 0); /* after it */
    }
    CHECK(signal(SIGSEGV, count) == SIG_DFL);
    CHECK(signal(SIGSEGV, SIG_IGN) == count);
    CHECK(signal(SIGSEGV, SIG_DFL) == SIG_IGN);
    CHECK(signal(SIGUSR2, count) == SIG_DFL);
    CHECK(signal(SIGUSR2, SIG_DFL) == count);
    CHECK(signal(SIGKILL, count) == SIG_ERR && errno == EINVAL);

    stack_t mine = {.ss_sp = stack, .ss_size = sizeof(stack)}, now;
    /* Not ==: SS_AUTODISARM of who started this program outlives execve(). */
    CHECK(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE) != 0);
    CHECK(sigaltstack(&mine, NULL) == 0);
    CHECK(sigaltstack(NULL, &now) == 0);
    CHECK(now.ss_sp == stack && now.ss_size == sizeof(stack) && now.ss_flags == 0);
    CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_WORKS(&box);
    stack_t bad = {.ss_sp = stack, .ss_size = 100};
    CHECK(sigaltstack(&bad, NULL) == -1 && errno == ENOMEM);
    mine.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&mine, NULL) == 0);
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_flags == SS_DISABLE);
    close_box(&box);
}

/* ---- how handlers run ---- */

static sigset_t seen;

static void look_at_the_mask(int number)
{
    CHECK(sigprocmask(SIG_BLOCK, NULL, &seen) == 0);
    count(number);
}

TEST(a_handler_has_the_mask_that_it_asked_for_and_the_call_its_own)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    sigset_t before, after;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &before) == 0);
    for (int inside = 0; inside < 2; inside++) {
        for (int nodefer = 0; nodefer < 2; nodefer++) {
            struct sigaction action = {.sa_handler = look_at_the_mask,
                                       .sa_flags = nodefer ? SA_NODEFER : 0};
            sigaddset(&action.sa_mask, SIGHUP);
            CHECK(sigaction(SIGALRM, &action, NULL) == 0);
            int had = atomic_load(&handled);
            alarm_in_ms(20);
            if (inside) {
                CHECK_TIMEOUT(call_within(&box, 60 * MS, hostile_loop, NULL, 0));
            } else {
                sleep_ms(60);
            }
            CHECK_EQUAL(atomic_load(&handled), had + 1);
            CHECK_EQUAL(sigismember(&seen, SIGHUP), 1);
            CHECK_EQUAL(sigismember(&seen, SIGALRM), !nodefer);
            CHECK_EQUAL(sigismember(&seen, SIGUSR1), 0);
            CHECK_EQUAL(sigismember(&seen, SIGSEGV), 0);
            CHECK(sigprocmask(SIG_BLOCK, NULL, &after) == 0);
            CHECK(memcmp(&before, &after, SIGRTMAX / 8) == 0); /* what the kernel writes */
        }
    }
    close_box(&box);
}

TEST(a_handler_that_resets_itself_runs_once)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    install(SIGUSR1, count, (int)SA_RESETHAND);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(atomic_load(&handled), 1);
    struct sigaction told;
    CHECK(sigaction(SIGUSR1, NULL, &told) == 0 && told.sa_handler == SIG_DFL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        raise(SIGUSR1);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 128 + SIGUSR1);
    close_box(&box);
}

TEST(ignored_signals_and_those_of_no_consequence_leave_calls_alone)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    CHECK(signal(SIGALRM, SIG_IGN) != SIG_ERR);
    alarm_in_ms(10);
    CHECK_TIMEOUT(call_within(&box, 40 * MS, hostile_loop, NULL, 0));
    CHECK(raise(SIGCHLD) == 0 && raise(SIGURG) == 0);
    CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    CHECK(raise(SIGSEGV) == 0);
    CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_read_is_restarted_or_interrupted_as_its_handler_says)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    install(SIGALRM, count, 0);
    alarm_in_ms(20);
    CHECK(read(ends[0], &byte, 1) == -1 && errno == EINTR);
    install(SIGALRM, count, SA_RESTART);
    alarm_in_ms(20);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(80);
        _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
    }
    CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x');
    CHECK_EQUAL(atomic_load(&handled), 2);
    CHECK_EQUAL(exit_status_of(child), 0);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    close_box(&box);
}

static void step_over(int number, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    CHECK_EQUAL((intptr_t)info->si_addr, 0x10);
    interrupted->uc_mcontext.gregs[REG_RIP] += 3; /* a store by way of r8 */
    interrupted->uc_mcontext.gregs[REG_RAX] = 77;
    count(number);
}

TEST(a_handler_may_change_what_it_returns_to)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    struct sigaction action = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    for (int i = 1; i <= 5; i++) {
        long rax = 0;
        __asm__ volatile("mov $0x10, %%r8d\n mov %%rdx, (%%r8)" : "+a"(rax) : : "r8", "memory");
        CHECK_EQUAL(rax, 77);
        CHECK_EQUAL(atomic_load(&handled), i);
        CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

static sigjmp_buf back;

static void jump_back(int number)
{
    siglongjmp(back, number);
}

static __attribute__((noinline)) int overflow(volatile char *above, unsigned long left)
{
    volatile char frame[4096];
    frame[0] = above[0];
    return left == 0 ? 0 : overflow(frame, left - 1) + frame[0];
}

TEST(the_callers_own_stack_overflow_reaches_its_handler)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    install(SIGSEGV, jump_back, SA_ONSTACK);
    for (volatile int i = 0; i < 5; i++) {
        if (sigsetjmp(back, 1) == 0) {
            volatile char frame[1] = {0};
            overflow(frame, ULONG_MAX);
            CHECK(false);
        }
        CHECK_EQUAL(call_number(&box, hostile_stack_overflow, 0).status, ISO_VIOLATION);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

static size_t depth;

static void use_stack(int number)
{
    volatile uint8_t *frame = __builtin_alloca(depth);
    for (size_t i = 0; i < depth; i += 512) {
        frame[depth - 1 - i] = 1;
    }
    count(number);
}

/* POSIX has it run on the stack that it interrupts, unless it asks for another. */
TEST(a_handler_that_needs_a_deep_stack_has_one)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    install(SIGALRM, use_stack, 0);
    for (depth = 32 << 10; depth <= 1 << 20; depth *= 2) {
        int had = atomic_load(&handled);
        alarm_in_ms(10);
        CHECK_TIMEOUT(call_within(&box, 40 * MS, hostile_loop, NULL, 0));
        CHECK(raise(SIGALRM) == 0);
        CHECK_EQUAL(atomic_load(&handled), had + 2);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

TEST(as_many_signals_at_once_as_there_are)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    sigset_t all, before;
    int sent = 0;
    sigfillset(&all);
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action = {.sa_handler = count, .sa_flags = SA_NODEFER};
        if (number != SIGKILL && number != SIGSTOP) {
            sigaction(number, &action, NULL); /* which refuses those that are not the program's */
        }
    }
    CHECK(sigprocmask(SIG_BLOCK, &all, &before) == 0);
    for (int number = 1; number < SIGRTMAX; number++) {
        /* One that stops the process takes a pending SIGCONT away. */
        if (number != SIGKILL && number != SIGSTOP && number != SIGCONT &&
            (number < 32 || number > 33)) {
            CHECK(raise(number) == 0);
            sent++;
        }
    }
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    CHECK_EQUAL(atomic_load(&handled), sent);
    CHECK_WORKS(&box);
    close_box(&box);
}

/* ---- what comes between ---- */

TEST(a_time_limit_ends_with_the_call_that_a_handler_leaves)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    install(SIGALRM, jump_back, 0);
    if (sigsetjmp(back, 1) == 0) {
        alarm_in_ms(10);
        call_within(&box, 50 * MS, hostile_loop, NULL, 0);
        CHECK(false);
    }
    struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    CHECK_EQUAL(nanosleep(&pause, NULL), 0); /* no signal that nobody asked for */
    CHECK_WORKS(&box);
    close_box(&box);
}

static void *spend_time(void *box)
{
    CHECK_TIMEOUT(call_within((const struct box *)box, 500 * MS, hostile_loop, NULL, 0));
    return NULL;
}

TEST(a_change_of_user_reaches_a_thread_that_is_inside)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, spend_time, &box) == 0);
    sleep_ms(100);
    alarm(10); /* ends the test if it waits for ever */
    CHECK(setgid(getgid()) == 0);
    alarm(0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_WORKS(&box);
    close_box(&box);
}

static const struct box *shared;
static enum iso_status called;

static void call_and_violate(int number)
{
    called = call_number(shared, hostile_write, 0).status;
    count(number);
}

TEST(a_handler_that_blocks_faults_may_call_and_nobody_dies)
{
    need_protection_keys();
    struct box box;
    open_used(&box);
    shared = &box;
    struct sigaction action = {.sa_handler = call_and_violate};
    sigfillset(&action.sa_mask);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK(called == ISO_VIOLATION || called == ISO_SYSTEM_ERROR || called == ISO_BUSY);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_thread_that_blocks_faults_after_its_first_call_does_not_die)
{
    need_protection_keys();
    struct box box;
    sigset_t all, before;
    open_used(&box);
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, &before) == 0);
    struct answer answer = call_number(&box, hostile_write, 0);
    CHECK(answer.status == ISO_VIOLATION || answer.status == ISO_SYSTEM_ERROR);
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_thread_that_blocks_all_but_faults_is_held_to_its_time_limits)
{
    need_protection_keys();
    struct box box;
    sigset_t most;
    open_used(&box);
    sigfillset(&most);
    const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP, SIGALRM};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        sigdelset(&most, faults[i]);
    }
    CHECK(sigprocmask(SIG_BLOCK, &most, NULL) == 0);
    alarm(5); /* ends the test if it waits for ever */
    struct answer answer = call_within(&box, 50 * MS, hostile_loop, NULL, 0);
    alarm(0);
    CHECK_TIMEOUT(answer);
    CHECK_WORKS(&box);
    close_box(&box);
}
