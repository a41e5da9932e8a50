/* Signals around PKRU-Safe's trusted heap. */
#include "domains.h"

#include <stdatomic.h>
#include <unistd.h>

static pid_t child;
static atomic_int handled;

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
