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

/* ---- handlers that fork ---- */

int __real_mprotect(void *address, size_t length, int protection);
__attribute__((visibility("default"))) /* the sanitizers' library calls it, too */
int __wrap_mprotect(void *address, size_t length, int protection);

static atomic_int handled;
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
