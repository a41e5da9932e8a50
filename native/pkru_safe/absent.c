/* Where the CPU's architecture has no protection keys. */
#include "isolation.h"

#include <errno.h>

static enum iso_status absent_open(const struct iso_options *options, struct iso_sandbox **sandbox,
                                   struct iso_fault *fault)
{
    (void)options;
    *sandbox = NULL;
    *fault = (struct iso_fault){
        .exit_code = -1, .system_errno = ENOSYS, .what = "protection keys, which x86-64 has"};
    return ISO_SYSTEM_ERROR;
}

enum iso_status iso_trusted_open(size_t length, struct iso_trusted **heap, struct iso_fault *fault)
{
    struct iso_sandbox *none;
    (void)length;
    *heap = NULL;
    return absent_open(NULL, &none, fault);
}

void iso_trusted_close(struct iso_trusted *heap)
{
    (void)heap; /* none was ever opened */
}

bool iso_trusted_write(struct iso_trusted *heap, size_t offset, const void *data, size_t length)
{
    (void)heap, (void)offset, (void)data, (void)length;
    return false;
}

bool iso_trusted_read(const struct iso_trusted *heap, size_t offset, void *data, size_t length)
{
    (void)heap, (void)offset, (void)data, (void)length;
    return false;
}

const struct iso_mechanism iso_pkru_safe = {.name = "pkru-safe", .open = absent_open};
