/* The system calls of walls without protection keys fail, each of them (sweep.h). */
#include "sweep.h"

#include <sched.h>

#if defined(__x86_64__)
#include "domain_lives.h"
#include "domains.h"
#endif

enum {
    LARGE = 200 << 10
}; /* more than a pipe holds, and more than a child has room for at first */

static uint8_t large[LARGE];

static const struct iso_mechanism *wall;
static bool hardened;

static void live(void)
{
    struct box box = {
        .mechanism = wall, .pinned = true, .cpu = sched_getcpu(), .hardened = hardened};
    open_step(&box);
    call_step(&box, CALL, 0, "abc", 3);
    call_step(&box, LARGE_CALL, 0, large, sizeof(large));
    call_step(&box, LIMITED_CALL, 60000 * MS, large, sizeof(large));
    error_step(&box);
    if (wall != &iso_direct) {
        violation_step(&box);
        call_step(&box, CALL_AFTER_VIOLATION, 0, "abc", 3);
        timeout_step(&box, hardened ? hostile_loop : hostile_sleep); /* that may not sleep */
        call_step(&box, CALL_AFTER_TIMEOUT, 0, "abc", 3);
        fork_step(&box);
    }
    close_step(&box);
}

/* `brief`: as in struct sweep, for those that fork most. */
static void sweep_wall(const struct iso_mechanism *mechanism, bool brief)
{
    wall = mechanism;
    sweep(&(struct sweep){.wall = mechanism->name, .life = live, .brief = brief});
}

TEST(whatever_fails_once_under_no_wall_is_an_error_once)
{
    sweep_wall(&iso_direct, false);
}

TEST(whatever_fails_once_under_a_pipe_is_an_error_once)
{
    sweep_wall(&iso_pipe, false);
}

TEST(whatever_fails_once_under_a_fork_is_an_error_once)
{
    sweep_wall(&iso_fork, true);
}

static void sweep_hardened(const struct iso_mechanism *mechanism, const char *name)
{
    require_hardening();
#if defined(__SANITIZE_ADDRESS__)
    skip("AddressSanitizer keeps what libseccomp frees, so that mappings grow with each open");
#endif
    wall = mechanism;
    hardened = true;
    sweep(&(struct sweep){.wall = name, .life = live, .brief = true});
}

TEST(whatever_fails_once_under_a_hardened_pipe_is_an_error_once)
{
    sweep_hardened(&iso_pipe, "pipe (hardened)");
}

TEST(whatever_fails_once_under_a_hardened_fork_is_an_error_once)
{
    sweep_hardened(&iso_fork, "fork (hardened)");
}

/* It calls no function. */
static void live_empty(void)
{
    struct box box = {.mechanism = &iso_floor};
    struct answer answer;
    open_step(&box);
    begin_step(CALL);
    ATTEMPT(answer, call_through(&box, 0, benign_echo, NULL, 0), answer.status == ISO_OK);
    close_step(&box);
}

TEST(whatever_fails_once_in_the_floor_of_pipes_is_an_error_once)
{
    sweep(&(struct sweep){.wall = "floor", .life = live_empty, .whole = true});
}

#if defined(__x86_64__)
static void sweep_model(const struct iso_mechanism *mechanism, const char *name)
{
    if (has_protection_keys()) {
        skip("this CPU has protection keys, which domain_faults sweeps");
    }
#if defined(__SANITIZE_ADDRESS__)
    skip("domains are not sanitised");
#endif
    sweep_domain(mechanism, name, true, mechanism != &iso_domain);
}

/* What domains call but for keys themselves, where the CPU has none. */
TEST(whatever_fails_once_in_a_model_of_a_domain_is_an_error_once)
{
    sweep_model(&iso_domain, "domain (model)");
}

TEST(whatever_fails_once_in_a_model_of_a_viewed_domain_is_an_error_once)
{
    sweep_model(&iso_domain_view, "domain-view (model)");
}

TEST(whatever_fails_once_in_a_model_of_a_serialised_domain_is_an_error_once)
{
    sweep_model(&iso_domain_serialised, "domain-serialised (model)");
}
#endif
