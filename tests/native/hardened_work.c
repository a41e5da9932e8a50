/* What goes on working in a hardened child: functions that compute, and all that calls promise. */
#include "sandbox.h"

#include "../../native/process/hardening.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void check_returns_0(iso_function *function)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = function, .hardened = true};
        open_box(&box);
        for (int i = 0; i < 3; i++) {
            struct answer answer = call(&box, own_function, NULL, 0);
            CHECK_OUTPUT(&box, answer, NULL, 0);
        }
        close_box(&box);
    }
}

#define WORK(name) static int name(const uint8_t *input, size_t length, struct iso_bytes *output)
#define UNUSED ((void)input, (void)length, (void)output)

static int compare(const void *one, const void *other)
{
    return memcmp(one, other, sizeof(uint64_t));
}

WORK(use_the_c_library)
{
    UNUSED;
    enum { COUNT = 100000 };
    uint64_t *numbers = malloc(COUNT * sizeof(*numbers));
    if (numbers == NULL) {
        return 1;
    }
    for (size_t i = 0; i < COUNT; i++) {
        numbers[i] = i * UINT64_C(0x9e3779b97f4a7c15);
    }
    qsort(numbers, COUNT, sizeof(*numbers), compare); /* asks how much memory there is */
    numbers = realloc(numbers, 64 << 20);             /* mapped, and mapped elsewhere */
    if (numbers == NULL) {
        return 2;
    }
    numbers = realloc(numbers, 128 << 20);
    if (numbers == NULL) {
        return 3;
    }
    free(numbers);
    char text[64];
    time_t now = time(NULL);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    bool fine = snprintf(text, sizeof(text), "%.3f %ld", 1.5, (long)now) > 5 && clock() >= 0 &&
                pthread_mutex_lock(&lock) == 0 && pthread_mutex_unlock(&lock) == 0;
    return fine ? 0 : 4;
}

TEST(a_function_that_computes_has_what_it_needs)
{
    check_returns_0(use_the_c_library);
}

WORK(print)
{
    UNUSED;
    fprintf(stderr, "a warning\n");
    int printed = printf("a result\n");
    return fflush(stdout) != 0 && errno == EBADF && printed > 0 ? 0 : 1;
}

TEST(what_a_function_prints_goes_nowhere_and_harms_nobody)
{
    check_returns_0(print);
}

static void count(int signal)
{
    (void)signal;
}

WORK(handle_a_signal)
{
    UNUSED;
    struct sigaction action = {.sa_handler = count};
    return sigaction(SIGUSR1, &action, NULL) != 0 || raise(SIGUSR1) != 0 ||
           kill(getpid(), SIGUSR1) != 0;
}

TEST(a_function_signals_itself_and_handles_it)
{
    check_returns_0(handle_a_signal);
}

TEST(violations_are_told_as_of_the_unhardened_twin)
{
    require_hardening();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        open_box(&box);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        struct answer answer = call_number(&box, hostile_write, 0x1230);
        CHECK_SIGNAL(answer, SIGSEGV);
        CHECK(answer.reply.fault.address_known && answer.reply.fault.address == 0x1230);
        CHECK(!answer.reply.fault.system_call_known);
        CHECK_EXIT(call_number(&box, hostile_exit, 9), 9);
        CHECK_SIGNAL(call_number(&box, hostile_raise, SIGKILL), SIGKILL);
        /* glibc says why, on a stream that is closed. */
        CHECK_SIGNAL(call(&box, hostile_smash_stack, NULL, 0), SIGABRT);
        CHECK_TIMEOUT(call_within(&box, 20 * MS, hostile_loop, NULL, 0));
        CHECK_EXIT(call(&box, hostile_null_output, NULL, 0), 126);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(large_inputs_and_outputs_pass)
{
    require_hardening();
    enum { LARGE = 5 << 20 };
    uint8_t *large = calloc(LARGE, 1);
    CHECK(large != NULL);
    large[LARGE - 1] = 7;
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        open_box(&box);
        CHECK_OUTPUT(&box, call(&box, benign_echo, large, LARGE), large, LARGE);
        close_box(&box);
    }
    free(large);
}

TEST(a_program_without_standard_streams_has_hardened_children)
{
    require_hardening();
    int copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 50);
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 50);
    int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 50);
    CHECK(copy >= 0 && out >= 0 && in >= 0);
    for (int gone = 1; gone < 8; gone++) { /* any of them, so that the pipes are among these */
        for (int fd = 0; fd < 3; fd++) {
            if (gone & (1 << fd)) {
                close(fd);
            }
        }
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall, .own = print, .hardened = true};
            open_box(&box);
            CHECK_OUTPUT(&box, call(&box, own_function, NULL, 0), NULL, 0);
            CHECK_WORKS(&box);
            close_box(&box);
        }
        CHECK(dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(copy, 2) == 2);
    }
    close(in);
    close(out);
    close(copy);
}

/* ---- a limit on memory ---- */

WORK(take_much_memory)
{
    UNUSED;
    void *volatile much = malloc(256 << 20);
    void *volatile little = malloc(1 << 20);
    int code = (much == NULL ? 1 : 2) + (little == NULL ? 4 : 0);
    free(much);
    free(little);
    return code;
}

TEST(an_address_space_that_is_limited_has_no_room_for_more)
{
    require_hardening();
#if defined(__SANITIZE_ADDRESS__)
    skip("AddressSanitizer's shadow memory is beyond any limit");
#endif
    FILE *status = fopen("/proc/self/statm", "r");
    CHECK(status != NULL);
    unsigned long pages = 0;
    CHECK_EQUAL(fscanf(status, "%lu", &pages), 1);
    fclose(status);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = take_much_memory, .hardened = true};
        open_box(&box);
        CHECK_EQUAL(call(&box, own_function, NULL, 0).reply.foreign_code, 2);
        close_box(&box);
        box.address_space = pages * (uint64_t)sysconf(_SC_PAGESIZE) + (64 << 20);
        open_box(&box);
        CHECK_EQUAL(call(&box, own_function, NULL, 0).reply.foreign_code, 1);
        close_box(&box);
    }
}

/* ---- the parent ---- */

static void *open_in_a_thread(void *box)
{
    open_box(box);
    return NULL;
}

TEST(a_hardened_child_outlives_the_thread_that_opened_it)
{
    require_hardening();
    struct box box = {.mechanism = &iso_pipe, .hardened = true};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, open_in_a_thread, &box) == 0);
    pthread_join(thread, NULL);
    sleep_ms(50); /* the kernel has told the child by then */
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(the_parent_keeps_what_its_children_gave_up)
{
    require_hardening();
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .hardened = true};
        open_box(&box);
        CHECK_WORKS(&box);
        close_box(&box);
    }
    struct rlimit after;
    CHECK(getrlimit(RLIMIT_NOFILE, &after) == 0);
    CHECK_EQUAL(after.rlim_cur, before.rlim_cur);
    int fd = open("/dev/null", O_WRONLY);
    CHECK(fd >= 0);
    close(fd);
}
