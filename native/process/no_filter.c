/* Built where libseccomp is not: there are no hardened children. */
#include "hardening.h"

#include <errno.h>

enum iso_hardening iso_hardening_here(void)
{
    return ISO_HARDENING_NOT_BUILT;
}

const char *filter_build(struct hardening *hardening)
{
    (void)hardening;
    errno = ENOSYS;
    return "hardening, which was built without libseccomp";
}
