#include <dlfcn.h>

#include "isolation.h"

#include "allocator.h"
#include "codec.h"
#include "inputs.h"
#include "violations.h"

/* cffi takes no addresses of constants; it reads these. */
static const struct iso_mechanism *const mechanism_direct = &iso_direct;
static const struct iso_mechanism *const mechanism_pipe = &iso_pipe;
static const struct iso_mechanism *const mechanism_fork = &iso_fork;
static const struct iso_mechanism *const mechanism_floor = &iso_floor;
static const struct iso_mechanism *const mechanism_domain = &iso_domain;
static const struct iso_mechanism *const mechanism_domain_view = &iso_domain_view;
static const struct iso_mechanism *const mechanism_domain_serialised = &iso_domain_serialised;
static const struct iso_mechanism *const mechanism_pkru_safe = &iso_pkru_safe;
