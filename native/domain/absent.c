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

enum iso_status iso_data_open(size_t length, struct iso_data **data, struct iso_fault *fault)
{
    struct iso_sandbox *none;
    (void)length;
    *data = NULL;
    return absent_open(NULL, &none, fault);
}

void iso_data_close(struct iso_data *data)
{
    (void)data; /* none was ever opened */
}

void iso_data_grant(struct iso_sandbox *sandbox, const struct iso_data *data,
                    enum iso_rights rights)
{
    (void)sandbox;
    (void)data;
    (void)rights;
}

const struct iso_mechanism iso_domain = {
    .name = "domain", .loads_libraries = true, .open = absent_open};
const struct iso_mechanism iso_domain_view = {
    .name = "domain-view", .loads_libraries = true, .open = absent_open};
const struct iso_mechanism iso_domain_serialised = {
    .name = "domain-serialised", .loads_libraries = true, .open = absent_open};
