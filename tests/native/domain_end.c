/* The process ends while a domain is in use. */
#include "domains.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { TELL = 100 }; /* the descriptor that the library tells its end by */

static void *call_without_end(void *sandbox)
{
    struct iso_reply reply;
    iso_domain.call(sandbox, &(struct iso_request){0}, &reply);
    return NULL;
}

/* Runs after the runtime's own handler, which was registered later: time for the domain. */
static void take_time(void)
{
    sleep_ms(100);
}

static _Noreturn void end_during_a_call(void)
{
    CHECK(atexit(take_time) == 0);
    const struct iso_symbol symbol = {LATE_WRITER, "write_late"};
    const struct iso_options options = {
        .symbols = &symbol, .function_count = 1, .sandbox_cpu = -1, .max_output_length = SIZE_MAX};
    struct iso_sandbox *sandbox;
    struct iso_fault fault;
    CHECK_EQUAL(iso_domain.open(&options, &sandbox, &fault), ISO_OK);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, call_without_end, sandbox) == 0);
    sleep_ms(300);
    exit(0);
}

TEST(destructors_find_what_was_loaded_though_a_call_goes_on)
{
    need_protection_keys();
    int ends[2];
    char told[3];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(dup2(ends[1], TELL) == TELL);
        close(ends[0]);
        close(ends[1]);
        end_during_a_call();
    }
    close(ends[1]);
    CHECK_EQUAL(exit_status_of(child), 0);
    CHECK_EQUAL(read(ends[0], told, sizeof(told)), 1);
    CHECK_EQUAL(told[0], 'w');
    close(ends[0]);
}
