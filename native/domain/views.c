#include "views.h"

#include <stdlib.h>

bool views_make_room(struct views *views)
{
    if (views_have_room(views)) {
        return true;
    }
    size_t room = views->room == 0 ? 16 : 2 * views->room;
    struct view *more = realloc(views->others, room * sizeof(*more));
    if (more == NULL) {
        return false;
    }
    views->others = more;
    views->room = room;
    return true;
}

bool views_set_latest_aside(struct views *views)
{
    views->others[views->count++] = (struct view){.data = views->latest};
    if (!views_make_room(views)) {
        views->count--;
        return false;
    }
    views->latest = NULL;
    return true;
}

void views_make_stale(struct views *views)
{
    if (views->latest != NULL) {
        views->others[views->count++] = (struct view){.data = views->latest};
        views->latest = NULL;
    }
    for (size_t i = 0; i < views->count; i++) {
        views->others[i].stale = true;
    }
}

/* Of two views at one address the stale one goes first: its block is not there to be freed, and the
 * other's is kept until both are released. */
bool views_release(struct views *views, const uint8_t *data)
{
    size_t found = views->count;
    for (size_t i = views->count; i-- > 0;) {
        if (views->others[i].data == data) {
            found = i;
            if (views->others[i].stale) {
                break;
            }
        }
    }
    bool is_latest = views->latest == data;
    if (found == views->count || (is_latest && !views->others[found].stale)) {
        if (is_latest) {
            views->latest = NULL;
        }
        return is_latest;
    }
    bool stale = views->others[found].stale;
    views->others[found] = views->others[--views->count];
    return !stale;
}

void views_close(struct views *views)
{
    free(views->others);
}
