#include "tracked.h"

#include "keys.h"
#include "region.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool tracked_open(struct tracked *tracked, void *begin, size_t length)
{
    *tracked = (struct tracked){.begin = begin, .length = length};
    tracked->image = malloc(length);
    tracked->dirty = calloc(length / PAGE, 1);
    if (tracked->image == NULL || tracked->dirty == NULL) {
        tracked_close(tracked);
        return false;
    }
    memcpy(tracked->image, begin, length);
    return true;
}

bool tracked_protect(struct tracked *tracked, int key)
{
    memset(tracked->dirty, 0, tracked->length / PAGE);
    return key_protect(tracked->begin, tracked->length, PROT_READ, key) == 0;
}

bool tracked_touch(struct tracked *tracked, uintptr_t address, int key)
{
    size_t offset = address - (uintptr_t)tracked->begin;
    if (offset >= tracked->length || tracked->dirty[offset / PAGE]) {
        return false;
    }
    uint8_t *page = tracked->begin + (offset & ~(PAGE - 1));
    if (key_protect(page, PAGE, PROT_READ | PROT_WRITE, key) != 0) {
        return false;
    }
    tracked->dirty[offset / PAGE] = 1;
    return true;
}

void tracked_restore(const struct tracked *tracked)
{
    for (size_t page = 0; page < tracked->length / PAGE; page++) {
        if (tracked->dirty[page]) {
            memcpy(tracked->begin + page * PAGE, tracked->image + page * PAGE, PAGE);
        }
    }
}

bool tracked_release(struct tracked *tracked)
{
    /* First: at exit another thread may be inside. */
    bool done = key_protect(tracked->begin, tracked->length, PROT_READ | PROT_WRITE, 0) == 0;
    tracked_restore(tracked);
    return done;
}

void tracked_close(struct tracked *tracked)
{
    free(tracked->image);
    free(tracked->dirty);
    *tracked = (struct tracked){0};
}
