/* The system has no more of something: an error with its errno, and nothing is left behind. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

/* Lets this process open `count` descriptors more than it has; -1: as many as before. */
static void allow_descriptors(int count)
{
    static struct rlimit before;
    if (before.rlim_cur == 0) {
        CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    }
    struct rlimit limit = before;
    if (count >= 0) {
        /* The limit is on numbers, not on how many: free numbers below it count. */
        limit.rlim_cur = 0;
        for (int left = count; left > 0 || fcntl((int)limit.rlim_cur, F_GETFD) >= 0;) {
            left -= fcntl((int)limit.rlim_cur, F_GETFD) < 0;
            limit.rlim_cur++;
        }
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

enum { PIPE_NEEDS = 5, FORK_NEEDS = 3 }; /* descriptors while the child is started */

TEST(opening_without_descriptors_is_an_error_that_leaves_nothing)
{
    int before = open_descriptors();
    for (int count = 0; count < PIPE_NEEDS; count++) {
        struct box box = {.mechanism = &iso_pipe};
        allow_descriptors(count);
        struct answer answer = try_open(&box);
        allow_descriptors(-1);
        CHECK_REFUSED(answer, EMFILE, count < 4 ? "pipe2" : "pidfd_open");
        CHECK(box.sandbox == NULL);
        CHECK_EQUAL(open_descriptors(), before);
        CHECK(has_no_children());
    }
    struct box box = {.mechanism = &iso_pipe};
    allow_descriptors(PIPE_NEEDS);
    open_box(&box);
    CHECK_WORKS(&box);
    CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
    CHECK_WORKS(&box);
    close_box(&box);
    allow_descriptors(-1);
}

TEST(a_call_that_finds_no_descriptors_for_its_child_is_an_error_and_a_later_one_is_right)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (int round = 0; round < 3; round++) {
            CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
            int before = open_descriptors();
            int needs = wall == &iso_pipe ? PIPE_NEEDS : FORK_NEEDS;
            for (int count = 0; count < needs; count++) {
                allow_descriptors(count);
                struct answer answer = call(&box, benign_reverse, "abc", 3);
                allow_descriptors(-1);
                CHECK_REFUSED(answer, EMFILE, count < needs - 1 ? "pipe2" : "pidfd_open");
                CHECK_EQUAL(open_descriptors(), before);
                CHECK(has_no_children());
            }
            CHECK_WORKS(&box);
        }
        close_box(&box);
    }
}

TEST(a_cpu_that_is_not_there_is_an_error_that_leaves_nothing)
{
    static const int cpus[] = {CPU_SETSIZE - 1, CPU_SETSIZE, INT32_MAX};
    int before = open_descriptors();
    for (size_t i = 0; i < sizeof(cpus) / sizeof(cpus[0]); i++) {
        struct box box = {.mechanism = &iso_pipe, .pinned = true, .cpu = cpus[i]};
        CHECK_REFUSED(try_open(&box), EINVAL, "sched_setaffinity");
        CHECK(box.sandbox == NULL);

        struct box of_one_call = {.mechanism = &iso_fork, .pinned = true, .cpu = cpus[i]};
        open_box(&of_one_call);
        CHECK_REFUSED(call(&of_one_call, benign_echo, NULL, 0), EINVAL, "sched_setaffinity");
        close_box(&of_one_call);
        CHECK_EQUAL(open_descriptors(), before);
        CHECK(has_no_children());
    }
}

/* Without standard streams, whose numbers are not used, starting a child takes others besides. */
TEST(opening_without_streams_and_without_descriptors_is_an_error_that_leaves_nothing)
{
    int before = open_descriptors();
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        struct answer answer = {.status = ISO_SYSTEM_ERROR};
        for (int count = 3; box.sandbox == NULL; count++) { /* those three */
            int kept[3];
            for (int fd = 0; fd < 3; fd++) {
                kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 40);
                CHECK(kept[fd] >= 40 && close(fd) == 0);
            }
            allow_descriptors(count);
            answer = try_open(&box);
            bool opened = answer.status == ISO_OK;
            if (opened) {
                answer = call(&box, benign_reverse, "abc", 3);
            }
            allow_descriptors(-1);
            bool taken = fcntl(0, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0 || fcntl(2, F_GETFD) >= 0;
            for (int fd = 0; fd < 3; fd++) {
                CHECK(dup2(kept[fd], fd) == fd && close(kept[fd]) == 0);
            }
            CHECK(!taken);
            if (answer.status != ISO_OK) {
                CHECK(answer.status == ISO_SYSTEM_ERROR);
                CHECK_EQUAL(answer.reply.fault.system_errno, EMFILE);
                CHECK(has_no_children());
                if (opened) {
                    close_box(&box);
                }
                CHECK_EQUAL(open_descriptors(), before);
            }
        }
        CHECK_OUTPUT(&box, answer, "cba", 3);
        close_box(&box);
    }
}
