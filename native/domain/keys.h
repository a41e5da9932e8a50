/* Protection keys: rights, and the system calls that hand keys out. */
#ifndef DOMAIN_KEYS_H
#define DOMAIN_KEYS_H

#include "gate.h"
#include "isolation.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { KEY_COUNT = 16 };

enum key_rights {
    KEY_NOTHING = 3,
    KEY_READ = 2,
    KEY_WRITE = 0
}; /* bits: 1 no access, 2 no write */

/* All rights: what threads that use domains have outside of them. */
#define PKRU_ALL 0U

static inline uint32_t pkru_with(uint32_t pkru, int key, enum key_rights rights)
{
    unsigned shift = 2U * (unsigned)key;
    return (pkru & ~(3U << shift)) | (uint32_t)rights << shift;
}

/* This process has no protection keys and goes through the motions: numbers for keys, no rights. No
 * wall. Set once, before the first key is asked for. */
extern bool keys_modelled;
int model_key_allocate(void);
int model_key_free(int key);

static inline void write_pkru(uint32_t pkru)
{
    if (!keys_modelled) {
        gate_set_rights(pkru);
    }
}

static inline uint32_t read_pkru(void)
{
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Not glibc's, whose pkey_alloc would change this thread's rights as a side effect of its own. */
static inline int key_allocate(void)
{
    return keys_modelled ? model_key_allocate() : (int)syscall(SYS_pkey_alloc, 0UL, 0UL);
}

static inline int key_free(int key)
{
    return keys_modelled ? model_key_free(key) : (int)syscall(SYS_pkey_free, key);
}

static inline int key_protect(void *address, size_t length, int protection, int key)
{
    /* Key -1 is none: the same system call, which then works without keys. */
    return (int)syscall(SYS_pkey_mprotect, address, length, protection, keys_modelled ? -1 : key);
}

/*
 * The keys of domains, data domains and signal stacks. Under the lock of domain.c, but for
 * keys_have().
 */

/* A key that is free now. -1: *fault says why; EAGAIN means that all are taken. */
int keys_take(struct iso_fault *fault);

/* After the last page under it is gone: whoever gets it next has no memory from us. */
void keys_return(int key);

/* One that was allocated otherwise; 0: none. */
void keys_note(int key);

/* Whether a key is one of them. */
bool keys_have(int key);

/* PKRU's bits of all keys that are or have been theirs: rights that a thread may have been given
 * in the midst of anything (signals.c, unattached.c). */
extern uint32_t keys_rights;

#endif
