#include "keys.h"

#include <errno.h>

/* ---- where there are none ---- */

bool keys_modelled;

static uint32_t modelled = 1; /* a bit each; key 0 is everybody's */

/* Under the lock of domain.c, as all that asks for keys. */
int model_key_allocate(void)
{
    if (modelled == (1U << KEY_COUNT) - 1) {
        errno = ENOSPC;
        return -1;
    }
    int key = __builtin_ctz(~modelled);
    modelled |= 1U << key;
    return key;
}

int model_key_free(int key)
{
    modelled &= ~(1U << key);
    return 0;
}

/* ---- whose they are ---- */

static uint32_t taken; /* a bit each */
uint32_t keys_rights;

int keys_take(struct iso_fault *fault)
{
    int key = key_allocate();
    if (key < 0) {
        bool none_left = errno == ENOSPC;
        *fault = (struct iso_fault){
            .exit_code = -1,
            .system_errno = none_left ? EAGAIN : errno,
            .what =
                none_left ? "all protection keys are taken: close a domain first" : "pkey_alloc",
        };
        return -1;
    }
    keys_note(key);
    return key;
}

void keys_return(int key)
{
    if (key > 0) {
        taken &= ~(1U << key);
        key_free(key);
    }
}

void keys_note(int key)
{
    if (key > 0) {
        taken |= 1U << key;
        keys_rights |= 3U << 2 * key;
    }
}

bool keys_have(int key)
{
    return key > 0 && key < KEY_COUNT && (taken >> key & 1) != 0;
}
