#include "heap.h"

#include <errno.h>
#include <string.h>

/* Bytes of a class, header included: a multiple of 16. */
static inline size_t class_size(uint32_t class)
{
    if (class < SMALL_CLASSES) {
        return class * 16UL;
    }
    uint32_t step = class - SMALL_CLASSES;
    size_t base = SMALL_MAX << (step / 4);
    return base + (base / 4) * (step % 4 + 1);
}

void heap_reset(struct heap *heap, uint8_t *memory, size_t size)
{
    memset(heap, 0, sizeof(*heap));
    heap->used_end = memory + HEADER; /* so that what follows a header is aligned */
    heap->limit = memory + size;
}

void *heap_fresh(struct heap *heap, uint32_t class)
{
    size_t size = class_size(class);
    if (size > (size_t)(heap->limit - heap->used_end)) {
        return NULL;
    }
    struct header *header = (struct header *)heap->used_end;
    heap->used_end += size;
    header->class = class;
    return header + 1;
}

void *heap_allocate_zeroed(struct heap *heap, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || total > HEAP_MAX - PAGE) {
        return NULL;
    }
    bool is_fresh = heap->free[class_of(total)] == NULL;
    uint8_t *block = heap_allocate(heap, total);
    /* Beyond what stays after a discard, pages come from the kernel. */
    bool is_zero = is_fresh && block > heap->limit - HEAP_MAX + HEAP_INITIAL;
    return block == NULL || is_zero ? block : memset(block, 0, total);
}

size_t heap_usable_size(const void *block)
{
    if (block == NULL) {
        return 0;
    }
    const struct header *header = header_of(block);
    size_t back = 0;
    if (header->class == ALIGNED) {
        back = header->back;
        header = header_of((const uint8_t *)block - back);
    }
    if (header->class >= HEAP_CLASSES) {
        __builtin_trap();
    }
    return class_size(header->class) - HEADER - back;
}

void *heap_reallocate(struct heap *heap, void *block, size_t size)
{
    if (block == NULL) {
        return heap_allocate(heap, size);
    }
    size_t before = heap_usable_size(block);
    if (size <= before && size >= before / 2) {
        return block;
    }
    void *moved = heap_allocate(heap, size);
    if (moved != NULL) {
        memcpy(moved, block, size < before ? size : before);
        heap_free(heap, block);
    }
    return moved;
}

void *heap_allocate_aligned(struct heap *heap, size_t alignment, size_t size)
{
    if (alignment <= 16) {
        return heap_allocate(heap, size);
    }
    if (alignment > HEAP_MAX / 2 || size > HEAP_MAX / 2) {
        return NULL;
    }
    uint8_t *block = heap_allocate(heap, size + alignment);
    if (block == NULL) {
        return NULL;
    }
    uint8_t *aligned = (uint8_t *)(((uintptr_t)block + alignment - 1) & ~(alignment - 1));
    if (aligned != block) {
        *header_of(aligned) =
            (struct header){.class = ALIGNED, .back = (uint32_t)(aligned - block)};
    }
    return aligned;
}
