/* A sandbox of the domain's mechanisms: a domain, the functions in it, and the results that are
 * out. */
#ifndef DOMAIN_SANDBOX_H
#define DOMAIN_SANDBOX_H

#include "domain.h"
#include "isolation.h"
#include "views.h"

#include "../codec/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum delivery { COPY, VIEW, SERIALISED };

struct iso_sandbox {
    struct domain *domain;
    const struct codec *codec; /* of SERIALISED */
    enum delivery delivery;
    bool respawn;
    bool dead;
    size_t max_output_length;
    struct views views; /* of VIEW */
    uint64_t discards;  /* of the domain's, those that the views know of */
    size_t function_count;
    void *functions[];
};

enum iso_status sandbox_open(const struct iso_options *options, enum delivery delivery,
                             struct iso_sandbox **result, struct iso_fault *fault);

/* What struct iso_mechanism says of close and address. */
void sandbox_close(struct iso_sandbox *sandbox);
const void *sandbox_address(const struct iso_sandbox *sandbox, size_t function);

#endif
