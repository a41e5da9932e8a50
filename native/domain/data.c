/* Data domains: memory under a key of its own, which domains have no rights to unless granted. */
#include "domain.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static bool refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return false;
}

/* The lock is held. */
static bool fill(struct iso_data *data, size_t length, struct iso_fault *fault)
{
    if (!domains_prepare(false, fault)) {
        return false;
    }
    data->length = (length + PAGE - 1) & ~(PAGE - 1);
    if (length == 0 || data->length < length) {
        errno = EINVAL;
        return refused(fault, "a data domain of this length");
    }
    data->key = keys_take(fault);
    if (data->key < 0) {
        return false;
    }
    void *memory =
        mmap(NULL, data->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return refused(fault, "mmap");
    }
    data->memory = memory;
    return key_protect(memory, data->length, PROT_READ | PROT_WRITE, data->key) == 0 ||
           refused(fault, "pkey_mprotect");
}

/* Whoever gets the key next has no memory from us, and no domain has rights to his: if that cannot
 * be had, nobody gets it. The lock is held. */
static void empty(struct iso_data *data)
{
    bool gone = data->memory == NULL || munmap(data->memory, data->length) == 0;
    if (data->key > 0 && domains_revoke(data->key) && gone) {
        keys_return(data->key);
    }
    free(data);
}

enum iso_status iso_data_open(size_t length, struct iso_data **data, struct iso_fault *fault)
{
    *fault = (struct iso_fault){.exit_code = -1};
    *data = NULL;
    struct iso_data *opened = calloc(1, sizeof(*opened));
    if (opened == NULL) {
        refused(fault, "calloc");
        return ISO_SYSTEM_ERROR;
    }
    domains_acquire();
    if (fill(opened, length, fault)) {
        *data = opened;
    } else {
        empty(opened);
    }
    domains_release();
    return *data != NULL ? ISO_OK : ISO_SYSTEM_ERROR;
}

void iso_data_close(struct iso_data *data)
{
    domains_acquire();
    empty(data);
    domains_release();
}
