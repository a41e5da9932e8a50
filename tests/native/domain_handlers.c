/* Handlers of the program's that call domains, are interrupted by others, or never return. */
#include "domains.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static struct box box;
static atomic_int handled;
static sigjmp_buf back;

static void open_used(void)
{
    need_protection_keys();
    box = (struct box){.mechanism = &iso_domain};
    open_box(&box);
    CHECK_WORKS(&box);
}

static void install(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void alarm_in_ms(unsigned milliseconds)
{
    struct itimerval soon = {.it_value = {.tv_usec = (suseconds_t)milliseconds * 1000}};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
}

static void count(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void jump_back(int number)
{
    siglongjmp(back, number);
}

/* ---- handlers that call ---- */

/* A call that ends as it should, or is refused where handlers may not call. */
static void check_called(struct answer answer, enum iso_status wanted)
{
    CHECK_EQUAL(answer.status, handlers_may_call() ? wanted : ISO_BUSY);
    if (answer.status == ISO_OK) {
        release(&box, &answer);
    }
}

static void call_in_all_ways(int number)
{
    volatile uint64_t local[64];
    for (size_t i = 0; i < 64; i++) {
        local[i] = i;
    }
    for (int i = 0; i < 3; i++) {
        check_called(call(&box, benign_reverse, "abc", 3), ISO_OK);
        check_called(call_number(&box, hostile_write, 0), ISO_VIOLATION);
        check_called(call_number(&box, hostile_write, (uintptr_t)&local[i]), ISO_VIOLATION);
        check_called(call_number(&box, hostile_use_heap, 16 << 20), ISO_OK);
        check_called(call_within(&box, 5 * MS, hostile_loop, NULL, 0), ISO_VIOLATION);
        check_called(call_number(&box, hostile_use_stack, 1000), ISO_OK);
        check_called(call_number(&box, hostile_stack_overflow, 0), ISO_VIOLATION);
    }
    for (size_t i = 0; i < 64; i++) {
        CHECK_EQUAL(local[i], i);
    }
    count(number);
}

TEST(a_handlers_calls_leave_its_own_variables_alone)
{
    open_used();
    install(SIGUSR1, call_in_all_ways, 0);
    for (int i = 1; i <= 3; i++) {
        CHECK(raise(SIGUSR1) == 0);
        CHECK_EQUAL(atomic_load(&handled), i);
        CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

static void call_and_be_interrupted(int number)
{
    volatile uint8_t local[100000];
    memset((void *)(uintptr_t)local, 0x55, sizeof(local));
    int had = atomic_load(&handled);
    alarm_in_ms(10);
    check_called(call_within(&box, 40 * MS, hostile_loop, NULL, 0), ISO_VIOLATION);
    while (atomic_load(&handled) == had) {
        sleep_ms(1);
    }
    for (size_t i = 0; i < sizeof(local); i++) {
        CHECK(local[i] == 0x55);
    }
    count(number);
}

static void use_stack(int number)
{
    volatile uint8_t local[300000];
    memset((void *)(uintptr_t)local, 0xaa, sizeof(local));
    count(number);
}

TEST(a_signal_in_a_handlers_call_leaves_that_handler_alone)
{
    open_used();
    install(SIGUSR1, call_and_be_interrupted, 0);
    install(SIGALRM, use_stack, 0);
    for (int i = 1; i <= 3; i++) {
        CHECK(raise(SIGUSR1) == 0);
        CHECK_EQUAL(atomic_load(&handled), 2 * i);
        CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

#if defined(__x86_64__)
static void call_between(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    CHECK(answer.status == ISO_OK || answer.status == ISO_BUSY);
    if (answer.status == ISO_OK) {
        release(&box, &answer);
    }
}

/* Each instruction of the way in is interrupted, by a trap. It ends in the domain, which has not to
 * trap. */
TEST(a_handler_may_try_to_call_between_any_two_instructions_of_a_call)
{
    open_used();
    install(SIGTRAP, call_between, 0);
    __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq" : : : "memory", "cc");
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    __asm__ volatile("pushfq\n andq $~0x100, (%%rsp)\n popfq" : : : "memory", "cc");
    CHECK_EQUAL(answer.status, ISO_VIOLATION);
    CHECK(atomic_load(&handled) > 20);
    CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_WORKS(&box);
    close_box(&box);
}
#endif

static enum iso_status first_status;

static void call_for_the_first_time(int number)
{
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    first_status = answer.status;
    if (answer.status == ISO_OK) {
        release(&box, &answer);
    }
    count(number);
}

static void *use_first_in_a_handler(void *nothing)
{
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(first_status, ISO_OK);
    CHECK((signal_stack().ss_flags & SS_DISABLE) == 0);
    CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    CHECK_WORKS(&box);
    return nothing;
}

TEST(a_threads_first_call_may_come_from_a_handler)
{
    open_used();
    install(SIGUSR1, call_for_the_first_time, 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use_first_in_a_handler, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(atomic_load(&handled), 1);
    close_box(&box);
}

/* ---- handlers that interrupt handlers ---- */

static void raise_another(int number)
{
    (void)number;
    CHECK(raise(SIGUSR2) == 0);
}

TEST(handlers_left_within_handlers_leave_a_signal_stack)
{
    open_used();
    install(SIGUSR1, raise_another, 0);
    install(SIGUSR2, jump_back, 0);
    for (volatile int i = 0; i < 300; i++) {
        if (sigsetjmp(back, 1) == 0) {
            raise(SIGUSR1);
            CHECK(false);
        }
        CHECK((signal_stack().ss_flags & SS_DISABLE) == 0);
        if (i % 10 == 0) {
            CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
            CHECK_WORKS(&box);
        }
    }
    close_box(&box);
}

static void raise_deeper(int number)
{
    count(number);
    struct answer answer = call_number(&box, hostile_write, 0);
    CHECK(answer.status == ISO_VIOLATION || answer.status == ISO_BUSY);
    if (atomic_load(&handled) == 40) {
        siglongjmp(back, 1);
    }
    raise(number);
}

TEST(a_handler_left_from_deep_within_others_does_no_harm)
{
    open_used();
    install(SIGUSR1, raise_deeper, SA_NODEFER);
    for (volatile int i = 0; i < 5; i++) {
        atomic_store(&handled, 0);
        if (sigsetjmp(back, 1) == 0) {
            raise(SIGUSR1);
            CHECK(false);
        }
        CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

static const int chain[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGALRM, SIGWINCH, SIGURG};
enum { CHAIN = sizeof(chain) / sizeof(chain[0]) };

static void raise_the_next(int number)
{
    volatile uint8_t local[20000];
    int i = 0;
    while (chain[i] != number) {
        i++;
    }
    memset((void *)(uintptr_t)local, number, sizeof(local));
    if (i + 1 < CHAIN) {
        CHECK(raise(chain[i + 1]) == 0);
    }
    for (size_t j = 0; j < sizeof(local); j++) {
        CHECK(local[j] == number);
    }
    count(number);
}

TEST(handlers_that_interrupt_each_other_do_not_share_their_stacks)
{
    open_used();
    for (int i = 0; i < CHAIN; i++) {
        install(chain[i], raise_the_next, 0);
    }
    for (int i = 1; i <= 3; i++) {
        CHECK(raise(chain[0]) == 0);
        CHECK_EQUAL(atomic_load(&handled), i * CHAIN);
        CHECK_EQUAL(call_number(&box, hostile_write, 0).status, ISO_VIOLATION);
    }
    CHECK_WORKS(&box);
    close_box(&box);
}

/* ---- calls that are left ---- */

TEST(the_time_limit_of_a_call_that_was_left_ends_no_later_one)
{
    open_used();
    install(SIGALRM, jump_back, 0);
    if (sigsetjmp(back, 1) == 0) {
        alarm_in_ms(10);
        call_within(&box, 50 * MS, hostile_loop, NULL, 0);
        CHECK(false);
    }
    sleep_ms(100);
    install(SIGALRM, count, 0);
    for (int i = 1; i <= 3; i++) {
        alarm_in_ms(5);
        struct answer answer = call_number(&box, hostile_use_heap, 200 << 20);
        CHECK_EQUAL(answer.status, ISO_OK);
        release(&box, &answer);
        while (atomic_load(&handled) < i) {
            sleep_ms(1);
        }
    }
    close_box(&box);
}

static atomic_bool is_inside;

static void *leave_and_end(void *nothing)
{
    if (sigsetjmp(back, 1) == 0) {
        CHECK_WORKS(&box);
        CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
        atomic_store(&is_inside, true);
        call(&box, hostile_loop, NULL, 0);
        CHECK(false);
    }
    return nothing;
}

TEST(a_call_that_ends_with_its_thread_leaves_the_domain_to_others)
{
    open_used();
    install(SIGUSR2, jump_back, 0);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        atomic_store(&is_inside, false);
        CHECK(pthread_create(&thread, NULL, leave_and_end, NULL) == 0);
        while (!atomic_load(&is_inside)) {
            sleep_ms(1);
        }
        sleep_ms(100);
        CHECK(pthread_kill(thread, SIGUSR2) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        /* As it was when opened. */
        CHECK_WORKS(&box);
    }
    CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 1);
    close_box(&box);
}

/* ---- threads that use no domains ---- */

enum { SMALL = 64 << 10 };

static void use_much_stack(int number)
{
    volatile uint8_t local[4 * SMALL];
    for (size_t i = sizeof(local); i-- > 0;) {
        local[i] = 1;
    }
    count(number);
}

static atomic_bool is_open;

static void *handle_on_a_small_stack(void *memory)
{
    stack_t stack = {.ss_sp = memory, .ss_size = SMALL}, now;
    CHECK(sigaltstack(&stack, NULL) == 0);
    while (!atomic_load(&is_open)) {
        sleep_ms(1);
    }
    sigset_t before, after;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &before) == 0);
    for (int i = 1; i <= 3; i++) {
        errno = E2BIG;
        CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
        CHECK_EQUAL(errno, E2BIG);
        CHECK_EQUAL(atomic_load(&handled), i);
        CHECK(sigaltstack(NULL, &now) == 0);
        CHECK(now.ss_sp == memory && now.ss_size == SMALL && now.ss_flags == 0);
        CHECK(pthread_sigmask(SIG_BLOCK, NULL, &after) == 0);
        CHECK(memcmp(&before, &after, 8) == 0);
    }
    CHECK_WORKS(&box);
    return memory;
}

TEST(a_handler_that_asks_for_no_other_stack_gets_none)
{
    need_protection_keys();
    uint8_t *memory = mmap(NULL, 3 * SMALL, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(mprotect(memory + SMALL, SMALL, PROT_READ | PROT_WRITE) == 0);
    install(SIGUSR1, use_much_stack, 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, handle_on_a_small_stack, memory + SMALL) == 0);
    open_used();
    atomic_store(&is_open, true);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(munmap(memory, 3 * SMALL) == 0);
    close_box(&box);
}
