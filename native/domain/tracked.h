/*
 * Memory whose content the process restores after a violation: libraries' data, thread-local
 * storage. It starts read-only; the first write to a page makes it writable and remembers that, so
 * that a restore copies the pages that were ever written and no others.
 */
#ifndef DOMAIN_TRACKED_H
#define DOMAIN_TRACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tracked {
    uint8_t *begin; /* page-aligned */
    size_t length;  /* a multiple of the page size */
    uint8_t *image; /* what is restored */
    uint8_t *dirty; /* a byte a page */
};

/* Copies the range's present content. False with errno. */
bool tracked_open(struct tracked *tracked, void *begin, size_t length);

/* Puts the range under a key, read-only. */
bool tracked_protect(struct tracked *tracked, int key);

/* Makes the page at this address writable. False: not this range's, or already so. */
bool tracked_touch(struct tracked *tracked, uintptr_t address, int key);

/* Copies the image back where pages were written. They stay writable. */
void tracked_restore(const struct tracked *tracked);

/* Restores, and makes the range ordinary memory again. False with errno: it keeps its key. */
bool tracked_release(struct tracked *tracked);

/* Frees the image; the range is left alone. */
void tracked_close(struct tracked *tracked);

#endif
