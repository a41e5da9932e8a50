/*
 * What a hardened child gives up before foreign code runs in it. The parent prepares, once for a
 * sandbox; the child only makes system calls, since it may be forked from a program with threads.
 *
 * The walls stand behind each other: there is no descriptor but the pipes', no limit that lets one
 * be made, no file that Landlock grants, and no system call that would use them. The filter alone
 * refuses; the others are for the day that it has a hole.
 */
#ifndef PROCESS_HARDENING_H
#define PROCESS_HARDENING_H

#include "isolation.h"

#include <linux/filter.h>

/* Where the pipes are in a hardened child: its filter knows descriptors by number. Below are the
 * standard streams, which are closed, so that what a library prints is not taken for an answer. */
enum { HARDENED_REQUEST = 3, HARDENED_REPLY = 4 };

enum { HARDENED_PIDS_MAX = 8 };

struct hardening {
    int landlock_version;        /* of the kernel's ABI; 0: it has none */
    uint64_t address_space;      /* limit in bytes; 0: none */
    struct sock_filter *program; /* owned */
    unsigned short program_length;
    unsigned short pids[HARDENED_PIDS_MAX]; /* instructions that compare with the child's pid */
    unsigned short pid_count;
};

/* On failure *hardening is NULL and *fault says why. */
enum iso_status hardening_open(const struct iso_options *options, struct hardening **hardening,
                               struct iso_fault *fault);
void hardening_close(struct hardening *hardening);

/* Makes the program of *hardening. Returns what was refused, with errno, or NULL. */
const char *filter_build(struct hardening *hardening);

/* Steps of harden(), in their order. */
enum harden_step {
    HARDEN_DONE,
    HARDEN_DESCRIPTORS,
    HARDEN_LANDLOCK,
    HARDEN_LIMITS,
    HARDEN_FILTER,
};

/*
 * In the child, after child_prepare(). Moves the pipes to their numbers and says so in
 * *request_read (which may be -1) and *reply_write. Returns the step that the system refused, with
 * errno; it refused it nothing of the steps before.
 */
enum harden_step harden(struct hardening *hardening, int *request_read, int *reply_write);

/* The name of a step, for errors; NULL: there is no such. */
const char *harden_step_name(uint32_t step);

#endif
