#include "allocator.h"

#include <limits.h>
#include <malloc.h>

bool iso_keep_buffers_mapped(void)
{
#if defined(__GLIBC__)
    enum { TOP_PAD = 64 << 20 }; /* bytes taken from the kernel beyond what is asked for */
    return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, INT_MAX) == 1 &&
           mallopt(M_TOP_PAD, TOP_PAD) == 1;
#else
    return false;
#endif
}
