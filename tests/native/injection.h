/*
 * Faults in the way of what the walls call: any function that `libisolation.so` imports, and any
 * system call that it makes by syscall(), can be made to fail at its Nth call.
 *
 * The library is the one that everybody uses. Its global offset table is rewritten, so that what
 * foreign libraries, the C library and the tests call for themselves never fails.
 */
#ifndef INJECTION_H
#define INJECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Whose call it is: of the process that uses sandboxes, or of any that it has forked. */
enum side { USERS, CHILDS, SIDE_COUNT };

/* Instead of an errno: done, but no more of it than one byte. */
enum { SHORT = -1 };

enum { CALLEES_MAX = 96, LOG_MAX = 1 << 16, ERRORS_MAX = 4, NO_CALLEE = -1 };

/* A call that was made. Which one it is, is told by side, callee and number alone. */
struct logged {
    uint8_t side;
    uint8_t step; /* of the test, which says what it is at */
    uint16_t callee;
    uint32_t number; /* of this callee's calls on this side, from 0 */
    uint64_t site;   /* return address, from the library's base on */
};

/* Shared by all processes of a trial. */
struct injection {
    int callee; /* NO_CALLEE: nothing fails */
    int side;
    uint32_t number;
    int error;

    atomic_uint fired; /* so many times: 0 or 1 */
    atomic_int step;
    atomic_uint calls[SIDE_COUNT][CALLEES_MAX];
    atomic_bool logs;
    atomic_uint logged;
    atomic_long unknown; /* number of a system call that is not in the table, or 0 */
    struct logged log[LOG_MAX];
};

/* Puts itself into the way, once, before the library is used. What the library imports and the
 * table does not know fails the test: say there how it can fail, or that it cannot. */
void injection_install(struct injection *shared);

/* The calling process is the one that uses sandboxes. */
void injection_begin(void);

const char *callee_name(int callee);

/* What it may fail with, up to a 0. */
const int *callee_errors(int callee);

#endif
