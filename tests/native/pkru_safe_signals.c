/*
 * Signals and forks around a call through PKRU-Safe's gate, in processes that have domains as well:
 * what is called finds the heap closed, the caller goes on, and a gate that nobody is inside of any
 * more gives nobody rights.
 */
#include "domains.h"

#include "../../native/domain/keys.h"
#include "../../native/domain/signal_stack.h"
#include "../../native/pkru_safe/gate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

/* Gate 0, as the first that is opened. */
static void open_gate(struct box *box, iso_function *own)
{
    *box = (struct box){.mechanism = &iso_pkru_safe, .own = own};
    open_box(box);
    CHECK_WORKS(box);
}

static void check_calls_own(const struct box *box)
{
    CHECK_EQUAL(call(box, own_function, NULL, 0).status, ISO_OK);
}

static struct box domain;

static struct answer view; /* of the domain's */

static void *open_domain(void *unused)
{
    domain = (struct box){.mechanism = &iso_domain_view};
    open_box(&domain);
    view = call(&domain, benign_reverse, "abc", 3);
    CHECK_EQUAL(view.status, ISO_OK);
    return unused;
}

/* So that the calling thread has not used a domain. */
static void open_domain_elsewhere(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, open_domain, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void close_domain(void)
{
    release(&domain, &view);
    close_box(&domain);
}

/* ---- gates that were left ---- */

/* A domain jumps there with these rights, led back to code of its own that writes outside. */
static void check_is_kept_in(const char *at, uint32_t rights)
{
    static volatile uint8_t outside;
    outside = 1;
    const uint64_t input[] = {(uintptr_t)at, rights, (uintptr_t)&outside};
    struct answer answer =
        call_within(&domain, 500 * MS, hostile_take_rights, input, sizeof(input));
    CHECK_EQUAL(outside, 1);
    CHECK_EQUAL(answer.status, ISO_VIOLATION);
}

/* `inside`: the rights of the call that has been left. */
static void check_gives_no_rights(uint32_t inside)
{
    if (signal_stack_key == 0) { /* before Linux 6.12 a jump with wrong rights ends the process */
        check_is_kept_in(pkru_safe_commit, inside);
        check_is_kept_in(pkru_safe_return, inside & pkru_safe_mask.keep);
    }
    CHECK_EQUAL(pkru_safe_inside[0], UINT32_MAX);
    CHECK_EQUAL(pkru_safe_kept.outside[0], UINT32_MAX);
}

static atomic_bool entered, may_leave;

static int stay(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    atomic_store(&entered, true);
    while (!atomic_load(&may_leave)) {
        sleep_ms(1);
    }
    return 0;
}

static void *call_own(void *box)
{
    check_calls_own(box);
    return NULL;
}

static pthread_t stay_in(struct box *box)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, call_own, box) == 0);
    while (!atomic_load(&entered)) {
        sleep_ms(1);
    }
    return thread;
}

static void leave(pthread_t thread)
{
    atomic_store(&may_leave, true);
    CHECK(pthread_join(thread, NULL) == 0);
}

TEST(a_call_of_another_thread_leaves_a_forked_child_no_rights_to_take)
{
    need_protection_keys();
    struct box gate;
    open_domain(NULL);
    open_gate(&gate, stay);
    pthread_t thread = stay_in(&gate);
    uint32_t inside = pkru_safe_inside[0];
    CHECK(inside != UINT32_MAX);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_gives_no_rights(inside);
        CHECK_WORKS(&gate);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(child), 0);
    CHECK_EQUAL(pkru_safe_inside[0], inside);
    leave(thread);
    CHECK_WORKS(&gate);
    close_box(&gate);
    close_domain();
}

static sigjmp_buf back;

static int jump_back(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    siglongjmp(back, 1);
}

TEST(a_call_that_was_left_by_longjmp_leaves_no_rights_to_take_once_its_sandbox_is_closed)
{
    need_protection_keys();
    struct box gate, other;
    open_domain(NULL);
    open_gate(&gate, jump_back);
    open_gate(&other, NULL); /* the trusted key stays */
    uint32_t before = read_pkru();
    if (sigsetjmp(back, 1) == 0) {
        call(&gate, own_function, NULL, 0);
        CHECK(false);
    }
    uint32_t inside = read_pkru();
    CHECK_EQUAL(inside, before | pkru_safe_mask.close);
    write_pkru(before);
    close_box(&gate);
    check_gives_no_rights(inside);
    close_box(&other);
    close_domain();
}

/* ---- functions that fork ---- */

static pid_t child;

static int fork_inside(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    child = fork();
    return 0;
}

static struct box forks;

static int call_what_forks(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    check_calls_own(&forks);
    return 0;
}

TEST(a_called_function_that_forks_returns_in_both_processes)
{
    need_protection_keys();
    struct box stays, calls;
    open_gate(&stays, stay);
    open_gate(&forks, fork_inside);
    open_gate(&calls, call_what_forks);
    pthread_t thread = stay_in(&stays);
    uint32_t before = read_pkru();
    const struct box *const ways[] = {&forks, &calls};
    for (int i = 0; i < 2; i++) {
        check_calls_own(ways[i]);
        CHECK_EQUAL(read_pkru(), before);
        if (child == 0) {
            CHECK_WORKS(&stays);
            CHECK_WORKS(ways[i]);
            _exit(5);
        }
        CHECK_EQUAL(exit_status_of(child), 5);
    }
    leave(thread);
    close_box(&calls);
    close_box(&forks);
    close_box(&stays);
}

/* ---- handlers that use domains ---- */

static atomic_int handled;

static void call_domain_once(int number)
{
    (void)number;
    if (atomic_fetch_add(&handled, 1) == 0) { /* later ones may not, before Linux 6.12 */
        CHECK_WORKS(&domain);
    }
}

static uint32_t uninterrupted, interrupted; /* rights of the called function */

static int raise_inside(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    uninterrupted = read_pkru();
    CHECK(raise(SIGUSR1) == 0);
    interrupted = read_pkru();
    return 0;
}

/* With the heap open to this thread, or lent to it. */
static void check_stays_closed(uint32_t rights)
{
    struct box gate;
    struct sigaction action = {.sa_handler = call_domain_once};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    open_domain_elsewhere();
    open_gate(&gate, raise_inside);
    write_pkru(read_pkru() | rights);
    check_calls_own(&gate);
    CHECK_EQUAL(atomic_load(&handled), 1);
    CHECK(uninterrupted != PKRU_ALL);
    CHECK_EQUAL(interrupted, signal_stack_key == 0
                                 ? uninterrupted
                                 : pkru_with(uninterrupted, signal_stack_key, KEY_WRITE));
    /* And the thread is one that uses domains. */
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(atomic_load(&handled), 2);
    CHECK_WORKS(&domain);
    CHECK_EQUAL(call_number(&domain, hostile_write, 0).status, ISO_VIOLATION);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(atomic_load(&handled), 3);
    CHECK_WORKS(&gate);
    close_box(&gate);
    close_domain();
}

TEST(a_handler_that_is_its_threads_first_to_use_a_domain_leaves_the_heap_closed)
{
    need_protection_keys();
    check_stays_closed(0);
}

TEST(a_handler_that_is_its_threads_first_to_use_a_domain_leaves_a_heap_that_is_lent_closed)
{
    need_protection_keys();
    check_stays_closed(0x55555554);
}

/* ---- functions that read a domain's results ---- */

static int read_view(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    const volatile uint8_t *data = view.reply.output.data;
    uninterrupted = read_pkru();
    int result = data[0] == 'c' && data[2] == 'a' ? 0 : 1;
    interrupted = read_pkru();
    return result;
}

/* With the heap open to this thread, or lent to it. */
static void check_may_be_read(uint32_t rights)
{
    struct box gate;
    open_domain_elsewhere();
    open_gate(&gate, read_view);
    uint32_t before = read_pkru() | rights;
    write_pkru(before);
    check_calls_own(&gate);
    uint32_t gained = uninterrupted & ~interrupted;
    CHECK(gained != 0 && (gained & pkru_safe_mask.close) == 0);
    CHECK_EQUAL(read_pkru(), before & ~gained);
    CHECK_EQUAL(pkru_safe_inside[0], UINT32_MAX);
    check_calls_own(&gate);
    CHECK_EQUAL(read_pkru(), before & ~gained);
    close_box(&gate);
    close_domain();
}

TEST(a_called_function_may_read_the_result_of_a_domain_in_place)
{
    need_protection_keys();
    check_may_be_read(0);
}

TEST(a_called_function_to_whose_thread_the_heap_is_lent_may_read_it_too)
{
    need_protection_keys();
    check_may_be_read(0x55555554);
}

static uint32_t closes, opens;

static int change_rights(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input, (void)length, (void)output;
    write_pkru((read_pkru() | closes) & ~opens);
    return 0;
}

TEST(a_called_function_that_changes_any_other_rights_does_not_return)
{
    need_protection_keys();
    struct box gate;
    open_domain_elsewhere();
    open_gate(&gate, change_rights);
    int others = (int)syscall(SYS_pkey_alloc, 0UL, 2UL); /* read-only */
    CHECK(others > 0);
    write_pkru(pkru_with(read_pkru(), others, KEY_READ));
    const uint32_t changes[][2] = {{1U << 2 * others, 0}, /* closes, opens */
                                   {0, 2U << 2 * others},
                                   {0, pkru_safe_mask.keep},
                                   {0, UINT32_MAX}};
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        closes = changes[i][0];
        opens = changes[i][1];
        pid_t caller = fork();
        CHECK(caller >= 0);
        if (caller == 0) {
            signal(SIGILL, SIG_DFL);
            call(&gate, own_function, NULL, 0);
            _exit(0);
        }
        CHECK_EQUAL(exit_status_of(caller), 128 + SIGILL);
    }
    CHECK(syscall(SYS_pkey_free, others) == 0);
    close_box(&gate);
    close_domain();
}

/* ---- handlers that fork ---- */

int __real_mprotect(void *address, size_t length, int protection);
__attribute__((visibility("default"))) /* the sanitizers' library calls it, too */
int __wrap_mprotect(void *address, size_t length, int protection);

static bool raises;

/* Called while the trusted heap's lock is held. */
int __wrap_mprotect(void *address, size_t length, int protection)
{
    if (raises) {
        raises = false;
        CHECK(raise(SIGUSR1) == 0);
    }
    return __real_mprotect(address, length, protection);
}

static void fork_in_handler(int number)
{
    (void)number;
    child = fork();
    if (child == 0) {
        struct iso_trusted *heap;
        struct iso_fault fault;
        CHECK_EQUAL(iso_trusted_open(1, &heap, &fault), ISO_OK);
        _exit(6);
    }
    atomic_fetch_add(&handled, 1);
}

TEST(a_handler_may_fork_while_its_thread_opens_or_closes_a_heap)
{
    need_protection_keys();
    struct iso_trusted *heap;
    struct iso_fault fault;
    struct sigaction action = {.sa_handler = fork_in_handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK_EQUAL(iso_trusted_open(1, &heap, &fault), ISO_OK); /* forks are known from here on */
    iso_trusted_close(heap);
    alarm(20); /* in case of a deadlock */
    raises = true;
    CHECK_EQUAL(iso_trusted_open(1, &heap, &fault), ISO_OK);
    CHECK_EQUAL(atomic_load(&handled), 1);
    CHECK_EQUAL(exit_status_of(child), 6);
    CHECK(iso_trusted_write(heap, 0, "x", 1));
    raises = true;
    iso_trusted_close(heap);
    CHECK_EQUAL(atomic_load(&handled), 2);
    CHECK_EQUAL(exit_status_of(child), 6);
    alarm(0);
}
