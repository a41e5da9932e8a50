#include "domain_lives.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { LARGE = 3 << 20 }; /* more than heap and arguments have from the start */

static uint8_t large[LARGE];
static struct box box;
static const struct iso_mechanism *mechanism;
static bool without_keys;

/* ---- steps ---- */

static volatile sig_atomic_t handled;

static void handle(int number)
{
    (void)number;
    handled++;
}

/* The program's call, which the walls may have a part in. */
static struct answer set_action(const struct sigaction *action, struct sigaction *before)
{
    struct answer answer = {0};
    if (sigaction(SIGALRM, action, before) != 0) {
        answer.status = ISO_SYSTEM_ERROR;
        answer.reply.fault = (struct iso_fault){.system_errno = errno, .what = "sigaction"};
    }
    return answer;
}

/* Of the program's, while a domain runs. */
static void signal_step(void)
{
    struct answer answer;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK}, before;
    begin_step(SIGNAL);
    ATTEMPT(answer, set_action(&action, &before), answer.status == ISO_OK);
    handled = 0;
    CHECK(setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 2000}}, NULL) == 0);
    ATTEMPT(answer, call_through(&box, 6 * MS, hostile_loop, NULL, 0),
            answer.status == ISO_VIOLATION &&
                answer.reply.fault.violation == ISO_VIOLATION_TIMEOUT);
    while (!handled) { /* the call was refused */
        usleep(1000);
    }
    ATTEMPT(answer, set_action(&before, NULL), answer.status == ISO_OK);
}

static void *call_from_thread(void *unused)
{
    (void)unused;
    call_step(&box, THREAD, 60000 * MS, "abc", 3);
    return NULL;
}

static void thread_step(void)
{
    pthread_t thread;
    begin_step(THREAD);
    CHECK(pthread_create(&thread, NULL, call_from_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void depth_step(void)
{
    struct answer answer;
    uint64_t depth = 200; /* frames of 4 KiB: more than a stack has from the start */
    begin_step(LARGE_CALL);
    ATTEMPT(answer, call_through(&box, 0, hostile_use_stack, &depth, sizeof(depth)),
            answer.status == ISO_OK);
    release(&box, &answer);
}

/* A view stays while the domain is discarded. */
static void view_step(void)
{
    struct answer views[2];
    for (size_t i = 0; i < 2; i++) {
        begin_step(CALL);
        ATTEMPT(views[i], call_through(&box, 0, benign_echo, "abc", 3),
                views[i].status == ISO_OK && memcmp(views[i].reply.output.data, "abc", 3) == 0);
    }
    violation_step(&box);
    release(&box, &views[0]);
    release(&box, &views[1]);
}

static void data_step(void)
{
    struct iso_data *data;
    struct answer answer = {0};
    begin_step(DATA);
    ATTEMPT(answer, ((answer.status = iso_data_open(5000, &data, &answer.reply.fault)), answer),
            answer.status == ISO_OK);
    iso_data_grant(box.sandbox, data, ISO_RIGHTS_READ);
    uint64_t address = (uintptr_t)data->memory;
    ATTEMPT(answer, call_through(&box, 0, hostile_read, &address, sizeof(address)),
            answer.status == ISO_OK);
    release(&box, &answer);
    iso_data_close(data);
}

/* ---- lives ---- */

static void live(void)
{
    box = (struct box){.mechanism = mechanism, .model = without_keys, .codec = "bincode-v1"};
    open_step(&box);
    call_step(&box, CALL, 0, "abc", 3);
    call_step(&box, LARGE_CALL, 0, large, sizeof(large));
    depth_step();
    call_step(&box, LIMITED_CALL, 60000 * MS, "abc", 3);
    error_step(&box);
    violation_step(&box);
    call_step(&box, CALL_AFTER_VIOLATION, 0, "abc", 3);
    view_step();
    signal_step();
    call_step(&box, CALL_AFTER_TIMEOUT, 0, "abc", 3);
    thread_step();
    fork_step(&box);
    if (!without_keys) {
        data_step();
    }
    close_step(&box);
}

void sweep_domain(const struct iso_mechanism *of, const char *name, bool model, bool brief)
{
    mechanism = of;
    without_keys = model;
    /* What stat() does not know is another library to those that wait for a domain; there are four
     * at most. Who cannot unmap a data domain keeps its key, as who cannot free a key does. */
    static const char *const keeps[] = {"stat", "munmap", "syscall(SYS_pkey_free)", NULL};
    /* The dynamic loader keeps some of what came into a namespace before. */
    sweep(
        &(struct sweep){.wall = name, .life = live, .brief = brief, .slack = 1024, .keeps = keeps});
}
