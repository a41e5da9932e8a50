/*
 * Thread-local storage of a domain. FS base leads foreign code to errno and the like; in the
 * calling thread's own block, which belongs to the process, writing them would be a violation. So a
 * domain gets a copy of the block of the thread that opened it.
 */
#ifndef DOMAIN_TLS_H
#define DOMAIN_TLS_H

#include "loader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Lays a copy out in memory (page-aligned) of the given size. *fs: the domain's FS base, *used: the
 * bytes taken, in whole pages; 0 for both where glibc does not tell what its blocks look like, so
 * that the domain has to do with the thread's own, read-only. False with errno: it does not fit.
 */
bool tls_copy(const struct libraries *libraries, uint8_t *memory, size_t size, uint64_t *fs,
              size_t *used);

#endif
