/* One life of a domain, for the sweeps of faults. */
#ifndef DOMAIN_LIVES_H
#define DOMAIN_LIVES_H

#include "sweep.h"

/* Of one of its mechanisms; `model`: without protection keys; `brief`: as in struct sweep. */
void sweep_domain(const struct iso_mechanism *mechanism, const char *name, bool model, bool brief);

#endif
