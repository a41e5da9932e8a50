/*
 * Foreign functions that break every rule, for the tests. Under no wall most of them end the
 * process or worse: call them only where something is meant to hold.
 */
#include "isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOSTILE(name)                                                                              \
    int hostile_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output);       \
    int hostile_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output)

#define UNUSED ((void)input, (void)input_length, (void)output)

/* An integer from the input's first 8 bytes, as much as is there. */
static uint64_t argument(const uint8_t *input, size_t input_length)
{
    uint64_t value = 0;
    memcpy(&value, input, input_length < sizeof(value) ? input_length : sizeof(value));
    return value;
}

HOSTILE(write) /* to the address in the input */
{
    (void)output;
    *(volatile uint8_t *)(uintptr_t)argument(input, input_length) = 0x66;
    return 0;
}

HOSTILE(read) /* the address in the input; 1 byte of output */
{
    uint8_t *byte = malloc(1);
    if (byte == NULL) {
        return 1;
    }
    *byte = *(volatile uint8_t *)(uintptr_t)argument(input, input_length);
    *output = (struct iso_bytes){byte, 1};
    return 0;
}

HOSTILE(jump) /* to the address in the input */
{
    (void)output;
    union {
        uintptr_t address;
        void (*code)(void);
    } target = {.address = (uintptr_t)argument(input, input_length)};
    target.code();
    return 0;
}

HOSTILE(abort)
{
    UNUSED;
    abort();
}

HOSTILE(exit) /* with the status in the input's first byte */
{
    (void)output;
    _exit((int)argument(input, input_length));
}

HOSTILE(raise) /* the signal whose number is the input */
{
    (void)output;
    raise((int)argument(input, input_length));
    return 0;
}

HOSTILE(illegal_instruction)
{
    UNUSED;
    __builtin_trap();
}

/* GCC would turn the recursion into a loop if the frame were not used after it. */
static __attribute__((noinline)) int deeper(volatile uint8_t *above)
{
    volatile uint8_t frame[4096];
    frame[0] = above[0];
    return deeper(frame) + frame[0];
}

HOSTILE(stack_overflow)
{
    volatile uint8_t frame[1] = {1};
    UNUSED;
    return deeper(frame);
}

HOSTILE(loop)
{
    UNUSED;
    for (volatile unsigned turn = 0;; turn = turn + 1) {
    }
}

HOSTILE(sleep)
{
    UNUSED;
    for (;;) {
        pause();
    }
}

HOSTILE(block_signals_and_loop)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return hostile_loop(input, input_length, output);
}

HOSTILE(null_output) /* claims bytes and has none */
{
    (void)input;
    (void)input_length;
    *output = (struct iso_bytes){NULL, 4096};
    return 0;
}

HOSTILE(long_output) /* as many zero bytes as the input says */
{
    size_t length = (size_t)argument(input, input_length);
    uint8_t *zeroes = calloc(length, 1);
    if (zeroes == NULL) {
        return 1;
    }
    *output = (struct iso_bytes){zeroes, length};
    return 0;
}

HOSTILE(close_descriptors)
{
    UNUSED;
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    for (;;) {
        pause();
    }
}

HOSTILE(leave_a_child) /* that holds all descriptors open, and die */
{
    UNUSED;
    if (fork() == 0) {
        for (;;) {
            pause();
        }
    }
    raise(SIGKILL);
    return 0;
}

/* A pipe to write to that this process was not started with: its sandbox's, as far as a foreign
 * function can tell. */
static int is_answer_pipe(int fd)
{
    struct stat status;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && fstat(fd, &status) == 0 &&
           S_ISFIFO(status.st_mode) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

/* Writes the input, less its first byte, as its own answer. Then: 'r' returns, 'x' exits, 'h'
 * hangs. */
HOSTILE(forge)
{
    (void)output;
    for (int fd = 3; fd < 256; fd++) {
        if (!is_answer_pipe(fd)) {
            continue;
        }
        for (size_t done = 1; done < input_length;) {
            ssize_t written = write(fd, input + done, input_length - done);
            if (written < 0 && errno != EINTR) {
                break;
            }
            done += written > 0 ? (size_t)written : 0;
        }
    }
    switch (input_length > 0 ? input[0] : 'r') {
    case 'x':
        _exit(0);
    case 'h':
        return hostile_sleep(input, input_length, output);
    default:
        return 0;
    }
}
