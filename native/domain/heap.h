/*
 * The allocator of a domain. It runs inside, on memory that the domain can write, and its state is
 * the domain's: whatever it returns is checked by who takes it out, and nobody else walks it.
 *
 * Size classes with a free list each (last in, first out); a class without a free block takes a new
 * one from the end of what is used. Blocks are not merged: a discard starts afresh.
 */
#ifndef DOMAIN_HEAP_H
#define DOMAIN_HEAP_H

#include "isolation.h"
#include "region.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* 16-byte steps up to SMALL_MAX, then four classes a doubling up to HEAP_MAX. */
#define SMALL_CLASSES 65
#define SMALL_MAX ((SMALL_CLASSES - 1) * 16UL)
#define LARGE_CLASSES (4 * 21)
#define HEAP_CLASSES (SMALL_CLASSES + LARGE_CLASSES)

struct heap {
    uint8_t *used_end; /* nothing was allocated from here on */
    uint8_t *limit;
    void *free[HEAP_CLASSES];
};

/* What the process and its domain pass each other, and the heap's state: a domain's first page. */
struct core {
    struct iso_bytes output;
    void *retired; /* a result that the caller is done with, for the next call to free */
    const struct codec *codec; /* that a call's arguments and result are laid out by, if any */
    struct heap heap;
};

_Static_assert(sizeof(struct core) <= PAGE, "the core does not fit its page");

/* The state of an empty heap. */
void heap_reset(struct heap *heap, uint8_t *memory, size_t size);

void *heap_allocate_zeroed(struct heap *heap, size_t count, size_t size);
void *heap_allocate_aligned(struct heap *heap, size_t alignment, size_t size);
void *heap_reallocate(struct heap *heap, void *block, size_t size);
size_t heap_usable_size(const void *block);

/* A block of a class that has none to reuse. NULL: the heap is full. */
void *heap_fresh(struct heap *heap, uint32_t class);

/*
 * Before each block lies its header, 8 bytes, so that blocks are aligned to 16. Of an aligned block
 * that lies within another, the header says how far back that one begins.
 */
struct header {
    uint32_t class; /* or ALIGNED */
    uint32_t back;  /* bytes, where class is ALIGNED */
};

#define ALIGNED UINT32_MAX
#define HEADER sizeof(struct header)

_Static_assert(HEADER == 8, "blocks would not be aligned to 16");

static inline struct header *header_of(const void *block)
{
    return (struct header *)((uintptr_t)block - HEADER);
}

static inline uint32_t class_of(size_t size)
{
    size_t whole = size + HEADER;
    if (__builtin_expect(whole <= SMALL_MAX, 1)) {
        return (uint32_t)((whole + 15) / 16);
    }
    /* base < whole <= 2 * base, in quarters of base */
    unsigned doublings = 63U - (unsigned)__builtin_clzl((whole - 1) / SMALL_MAX);
    size_t base = SMALL_MAX << doublings;
    uint32_t quarter = (uint32_t)((whole - base - 1) / (base / 4));
    return SMALL_CLASSES + 4 * doublings + quarter;
}

static inline void *heap_allocate(struct heap *heap, size_t size)
{
    if (__builtin_expect(size > HEAP_MAX - PAGE, 0)) {
        return NULL;
    }
    uint32_t class = class_of(size);
    void *block = heap->free[class];
    if (__builtin_expect(block == NULL, 0)) {
        return heap_fresh(heap, class);
    }
    memcpy(&heap->free[class], block, sizeof(void *)); /* a free block begins with the next one */
    return block;
}

/* Whether heap_free() would take it, as headers say that can be anything: it lies `offset` behind
 * where the first block would. */
static inline bool heap_may_be_block(const uint8_t *block, size_t offset)
{
    struct header header;
    memcpy(&header, header_of(block), sizeof(header));
    if (__builtin_expect(header.class == ALIGNED && header.back <= offset, 0)) {
        memcpy(&header, header_of(block - header.back), sizeof(header));
    }
    return header.class < HEAP_CLASSES;
}

/* The block is not NULL. */
static inline void heap_free(struct heap *heap, void *block)
{
    const struct header *header = header_of(block);
    if (__builtin_expect(header->class >= HEAP_CLASSES, 0)) {
        if (header->class != ALIGNED) {
            __builtin_trap(); /* not a block, or an overwritten one */
        }
        block = (uint8_t *)block - header->back;
        header = header_of(block);
        if (header->class >= HEAP_CLASSES) {
            __builtin_trap();
        }
    }
    memcpy(block, &heap->free[header->class], sizeof(void *));
    heap->free[header->class] = block;
}

#endif
