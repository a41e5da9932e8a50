/* The sandbox's child ends with the process that it belongs to, and not before. */
#include "sandbox.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static volatile pid_t *child_id; /* shared with the child */

/* Tells its process id and then does what the input's number says. */
static int tell_and_do(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    CHECK_EQUAL(length, sizeof(uint64_t));
    *child_id = getpid();
    return input[0] == own_function ? 0 : foreign((enum foreign)input[0])(NULL, 0, output);
}

struct scene {
    const struct iso_mechanism *wall;
    enum foreign function; /* what the child is doing; own_function: nothing */
    bool in_thread;        /* the sandbox is opened and used by a thread that is not the main one */
};

static void *play(void *argument)
{
    const struct scene *scene = argument;
    struct box box = {.mechanism = scene->wall, .own = tell_and_do};
    open_box(&box);
    call_number(&box, own_function, scene->function);
    for (;;) {
        pause();
    }
    return NULL;
}

/* Starts a process that plays the scene, and returns when its child has told its id. */
static pid_t start(struct scene scene)
{
    child_id = shared_memory(sizeof(*child_id));
    pid_t parent = fork();
    CHECK(parent >= 0);
    if (parent == 0) {
        pthread_t thread;
        if (!scene.in_thread || pthread_create(&thread, NULL, play, &scene) != 0) {
            play(&scene);
        }
        pthread_join(thread, NULL);
    }
    uint64_t begin = now_ms();
    while (*child_id == 0) {
        CHECK(now_ms() - begin < 10000);
        sleep_ms(1);
    }
    sleep_ms(20);
    return parent;
}

static void check_ends_with_parent(struct scene scene)
{
    pid_t parent = start(scene);
    CHECK(kill(*child_id, 0) == 0);
    CHECK(kill(parent, SIGKILL) == 0);
    CHECK_EQUAL(exit_status_of(parent), 128 + SIGKILL);
    CHECK(ends_soon(*child_id));
}

TEST(an_idle_child_ends_when_its_parent_is_killed)
{
    check_ends_with_parent((struct scene){&iso_pipe, own_function, false});
    check_ends_with_parent((struct scene){&iso_pipe, own_function, true});
}

TEST(a_child_in_an_endless_loop_ends_when_its_parent_is_killed)
{
    FOR_EACH_WALL(wall)
    {
        check_ends_with_parent((struct scene){wall, hostile_loop, false});
        check_ends_with_parent((struct scene){wall, hostile_loop, true});
    }
}

TEST(a_sleeping_child_ends_when_its_parent_is_killed)
{
    FOR_EACH_WALL(wall)
    {
        check_ends_with_parent((struct scene){wall, hostile_sleep, false});
        check_ends_with_parent((struct scene){wall, hostile_sleep, true});
    }
}

TEST(a_child_that_blocks_all_signals_ends_when_its_parent_is_killed)
{
    FOR_EACH_WALL(wall)
    {
        check_ends_with_parent((struct scene){wall, hostile_block_signals_and_loop, false});
    }
}

TEST(a_child_ends_when_its_parent_ends_without_closing)
{
    child_id = shared_memory(sizeof(*child_id));
    pid_t parent = fork();
    CHECK(parent >= 0);
    if (parent == 0) {
        struct box box = {.mechanism = &iso_pipe};
        open_box(&box);
        CHECK_WORKS(&box);
        *child_id = iso_pipe.process(box.sandbox);
        _exit(0);
    }
    CHECK_EQUAL(exit_status_of(parent), 0);
    CHECK(ends_soon(*child_id));
}

TEST(an_idle_child_ends_when_its_parent_becomes_another_program)
{
    child_id = shared_memory(sizeof(*child_id));
    pid_t parent = fork();
    CHECK(parent >= 0);
    if (parent == 0) {
        struct box box = {.mechanism = &iso_pipe};
        open_box(&box);
        CHECK_WORKS(&box);
        *child_id = iso_pipe.process(box.sandbox);
        execl("/bin/sh", "sh", "-c", "exec sleep 60", (char *)NULL);
        _exit(127);
    }
    uint64_t begin = now_ms();
    while (*child_id == 0 && now_ms() - begin < 10000) {
        sleep_ms(1);
    }
    CHECK(*child_id != 0);
    CHECK(ends_soon(*child_id));
    CHECK(kill(parent, SIGKILL) == 0);
    CHECK_EQUAL(exit_status_of(parent), 128 + SIGKILL);
}

/* ---- threads end, the process lives ---- */

static void *open_it(void *box)
{
    open_box(box);
    CHECK_WORKS((struct box *)box);
    return NULL;
}

static void *respawn_it(void *box)
{
    CHECK_SIGNAL(call(box, hostile_abort, NULL, 0), SIGABRT);
    CHECK_NUMBER((struct box *)box, call(box, benign_count, NULL, 0), 1);
    return NULL;
}

static void run_in_thread(void *(*function)(void *), struct box *box)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, function, box) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    sleep_ms(50); /* its end has been told to the child */
}

TEST(a_sandbox_outlives_the_thread_that_opened_it_or_started_it_anew)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        run_in_thread(open_it, &box);
        CHECK_WORKS(&box);
        run_in_thread(respawn_it, &box);
        if (wall == &iso_pipe) {
            CHECK_NUMBER(&box, call(&box, benign_count, NULL, 0), 2); /* the same child */
        }
        CHECK_WORKS(&box);
        close_box(&box);
    }
}
