/*
 * Hostile code takes back what it has written into the pipe of its answers, when the caller has
 * seen that it is there and has not yet read it. This program has the walls linked in, and the
 * linker sends their ppoll() through the one below (--wrap).
 */
#include "sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static bool slow; /* between seeing an answer and reading it */

int __real_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                 const sigset_t *mask)
{
    int ready = __real_ppoll(waits, count, limit, mask);
    if (slow) {
        sleep_ms(400);
    }
    return ready;
}

/* Then: 'a' answers, 'w' waits. */
static int write_and_take_back(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    char path[64], byte;
    CHECK_EQUAL(length, 1);
    int fd = answer_pipe();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int other_end = open(path, O_RDONLY);
    CHECK(other_end >= 0);
    CHECK(write(fd, "x", 1) == 1);
    sleep_ms(50); /* until it has been seen */
    CHECK(read(other_end, &byte, 1) == 1);
    if (*input != 'a') {
        for (;;) {
            pause();
        }
    }
    close(other_end);
    return foreign(benign_reverse)(input, length, output);
}

TEST(an_answer_that_is_taken_back_before_it_is_read_ends_in_time)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = write_and_take_back};
        open_box(&box);
        slow = true;
        uint64_t begin = now_ms();
        CHECK_TIMEOUT(call_within(&box, 600 * MS, own_function, "w", 1));
        CHECK(now_ms() - begin < 4000);
        CHECK_OUTPUT(&box, call_within(&box, 5000 * MS, own_function, "a", 1), "a", 1);
        slow = false;
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* Each waits in its own way, and one child serves both. */
TEST(calls_with_and_without_a_limit_may_follow_each_other_in_any_order)
{
    struct box box = {.mechanism = &iso_pipe};
    open_box(&box);
    for (uint64_t i = 1; i <= 60; i++) {
        uint64_t limit = i * i % 5 < 2 ? 0 : 5000 * MS;
        CHECK_NUMBER(&box, call_within(&box, limit, benign_count, NULL, 0), i);
    }
    close_box(&box);
}
