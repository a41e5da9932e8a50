#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SKIPPED = 77 };

__thread const char *check_context = "";

static struct test *tests;

void add_test(struct test *test)
{
    test->next = tests;
    tests = test;
}

void check_failed(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: failed: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "%s%s%s\n", *check_context ? " [" : "", check_context,
            *check_context ? "]" : "");
    va_end(arguments);
    _exit(1);
}

void check_equal(const char *file, int line, const char *expression, long long value,
                 long long wanted)
{
    if (value != wanted) {
        check_failed(file, line, "%s is %lld, not %lld", expression, value, wanted);
    }
}

void skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    exit(SKIPPED);
}

int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    int count = -1; /* the directory's own */
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

bool has_no_children(void)
{
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(unsigned milliseconds)
{
    struct timespec left = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

int exit_status_of(pid_t pid)
{
    int status;
    pid_t ended;
    do {
        ended = waitpid(pid, &status, 0);
    } while (ended < 0 && errno == EINTR);
    CHECK_EQUAL(ended, pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void *shared_memory(size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

bool ends_soon(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        return errno == ESRCH;
    }
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    int ended = poll(&end, 1, 5000);
    close(pidfd);
    return ended == 1;
}

int main(int argc, char **argv)
{
    for (struct test *test = tests; test != NULL; test = test->next) {
        if (argc == 2 && strcmp(argv[1], test->name) == 0) {
            int before = open_descriptors();
            test->run();
            CHECK(has_no_children());
            CHECK_EQUAL(open_descriptors(), before);
            return 0;
        }
    }
    fprintf(stderr, "usage: %s TEST, where TEST is one of:\n", argv[0]);
    for (struct test *test = tests; test != NULL; test = test->next) {
        fprintf(stderr, "  %s\n", test->name);
    }
    return 2;
}
