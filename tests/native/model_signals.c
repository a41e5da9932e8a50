/* Signals in models of domains, which have an entry of their own; domain_signals.c has the rest. */
#include "domains.h"

#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void handle(int number)
{
    (void)number;
    handled++;
}

/* A process that stops this one for so long, and meanwhile sends its only thread a signal. */
static pid_t start_stopping(unsigned milliseconds, int number)
{
    pid_t stopped = getpid();
    pid_t stopper = fork();
    CHECK(stopper >= 0);
    if (stopper == 0) {
        sleep_ms(5); /* the call is under way */
        kill(stopped, SIGSTOP);
        syscall(SYS_tgkill, stopped, stopped, number);
        sleep_ms(milliseconds);
        kill(stopped, SIGCONT);
        _exit(0);
    }
    return stopper;
}

TEST(a_handler_runs_though_the_limit_of_a_call_passes_as_its_signal_arrives)
{
    enum { LIMIT_MS = 20 };
    if (has_protection_keys()) {
        skip("this CPU has protection keys; there are no models");
    }
    struct box box = {.mechanism = &iso_domain, .model = true};
    struct sigaction action = {.sa_handler = handle};
    sigset_t blocked;
    open_box(&box);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 1; i <= 5; i++) {
        /* Then both are there, and the kernel interrupts the one's handler by the other's. */
        pid_t stopper = start_stopping(2 * LIMIT_MS, SIGUSR1);
        CHECK_TIMEOUT(call_within(&box, LIMIT_MS * MS, hostile_loop, NULL, 0));
        CHECK_EQUAL(exit_status_of(stopper), 0);
        CHECK_EQUAL(handled, i);
        CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGUSR1));
        CHECK_WORKS(&box);
    }
    close_box(&box);
}
