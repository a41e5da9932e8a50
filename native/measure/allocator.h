#ifndef MEASURE_ALLOCATOR_H
#define MEASURE_ALLOCATOR_H

#include <stdbool.h>

#pragma GCC visibility push(default)
/*
 * Makes glibc keep large buffers mapped, for the whole process: none by mmap, nothing given back.
 * By default it maps, faults in and unmaps a buffer above 128 KiB on every call, which costs more
 * than most walls and is no wall's doing. Returns false where malloc has no such switch.
 */
bool iso_keep_buffers_mapped(void);
#pragma GCC visibility pop

#endif
