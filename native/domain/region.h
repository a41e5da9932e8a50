/*
 * The address space of domains: one arena, reserved once, with a slot for each. A slot's place says
 * whose it is, so that code inside finds its domain from its stack pointer alone.
 *
 *   slot  +------------------------------------------------------------------------------+
 *         | guard | core | guard | stack (grows down) | heap (grows up) | arguments | guard
 *         +------------------------------------------------------------------------------+
 *
 * core: what the domain writes and the process restores after a violation: the call's result, the
 * heap's state, thread-local storage.
 *
 * Stack and heap start with a size that most calls do with, and grow beyond by page faults, so that
 * the process knows how far they ever reached without asking the domain. A discard gives back what
 * grew. The initial part keeps its pages: faulting a page in again costs more than anything else
 * that a rewind does. What lay there is as free memory, not zero.
 *
 * Arguments that are copied in lie apart from the heap: the process, not the domain, says where.
 */
#ifndef DOMAIN_REGION_H
#define DOMAIN_REGION_H

#include "gate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define SLOT_SIZE (1UL << 32)
#define CORE_OFFSET (64UL << 10)
#define CORE_SIZE (128UL << 10)
#define STACK_LOW_OFFSET (1UL << 20) /* everything below is guard */
#define STACK_MAX (8UL << 20)
#define STACK_TOP_OFFSET (STACK_LOW_OFFSET + STACK_MAX)
#define HEAP_OFFSET STACK_TOP_OFFSET
#define HEAP_MAX (2UL << 30)
#define ARGUMENTS_OFFSET (3UL << 30)
#define ARGUMENTS_MAX ((1UL << 30) - (1UL << 20)) /* the rest is guard */

/* What is writable from the start, and stays after a discard. */
#define STACK_INITIAL (256UL << 10)
#define HEAP_INITIAL (1UL << 20)

struct region {
    uint8_t *base;      /* the slot; NULL: none */
    int key;            /* its protection key */
    uint8_t *stack_low; /* the lowest writable byte of the stack */
    uint8_t *heap_end;  /* the first byte of the heap that is not */
    size_t arguments;   /* writable bytes there */
};

/* Bounds of the arena; read by code inside domains. */
extern uint8_t *arena_base;
extern size_t arena_size;

/* Reserves the arena. False with errno. Once. */
bool arena_reserve(void);

/* Makes the initial stack and heap of slot `number` writable under a key. False with errno. */
bool region_open(struct region *region, unsigned number, int key);

/* Extends stack or heap to a faulting address. False: the address is in neither, or no memory. */
bool region_grow(struct region *region, uintptr_t address);

/* Room for the arguments of a call, which stays until the slot is closed. NULL with errno. */
uint8_t *region_arguments(struct region *region, size_t size);

/* Gives back what stack and heap grew; `readable`: what the heap grew can still be read, as zeros.
 * False with errno. */
bool region_discard(struct region *region, bool readable);

/* Gives the slot's memory back. False with errno: it is still there. */
bool region_close(struct region *region);

static inline bool region_has(const struct region *region, uintptr_t address)
{
    return address - (uintptr_t)region->base < SLOT_SIZE;
}

static inline uint8_t *region_heap(const struct region *region)
{
    return region->base + HEAP_OFFSET;
}

#endif
