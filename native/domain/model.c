/* Protection keys where there are none; see keys.h. */
#include "keys.h"

#include <errno.h>

bool keys_modelled;

static uint32_t taken = 1; /* a bit each; key 0 is everybody's */

/* Under the lock of domain.c, as all that asks for keys. */
int model_key_allocate(void)
{
    if (taken == (1U << KEY_COUNT) - 1) {
        errno = ENOSPC;
        return -1;
    }
    int key = __builtin_ctz(~taken);
    taken |= 1U << key;
    return key;
}

int model_key_free(int key)
{
    taken &= ~(1U << key);
    return 0;
}
