/* Results that the caller reads where the domain has written them, until it releases them. */
#ifndef DOMAIN_VIEWS_H
#define DOMAIN_VIEWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct view {
    const uint8_t *data;
    bool stale; /* its block went with a discard */
};

/*
 * Most callers have one at a time, which is then the latest, and cost nothing here. While a sandbox
 * takes calls there is room for one more of the others: a discard, which may not fail, makes the
 * latest one of them.
 */
struct views {
    uint8_t *latest;     /* that is not released yet; NULL: none */
    struct view *others; /* room for so many: */
    size_t room;
    size_t count;
};

static inline bool views_have_room(const struct views *views)
{
    return views->count < views->room;
}

/* Makes it. False with errno. */
bool views_make_room(struct views *views);

/* Makes the latest one of the others, and room. False with errno: the latest is what it was. */
bool views_set_latest_aside(struct views *views);

/* After a discard: their blocks are gone. The caller may go on reading them, though not what they
 * were. Takes the room. */
void views_make_stale(struct views *views);

/* The caller is done with one. True: its block is to be freed. */
bool views_release(struct views *views, const uint8_t *data);

void views_close(struct views *views);

#endif
