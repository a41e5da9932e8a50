#include "region.h"

#include "keys.h"

#include <errno.h>
#include <sys/mman.h>

uint8_t *arena_base;
size_t arena_size;

bool arena_reserve(void)
{
    if (arena_base != NULL) {
        return true;
    }
    size_t size = (GATE_COUNT + 1) * SLOT_SIZE;
    uint8_t *memory =
        mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    arena_size = GATE_COUNT * SLOT_SIZE;
    arena_base = (uint8_t *)(((uintptr_t)memory + SLOT_SIZE - 1) & ~(SLOT_SIZE - 1));
    return true;
}

bool region_open(struct region *region, unsigned number, int key)
{
    uint8_t *base = arena_base + number * SLOT_SIZE;
    uint8_t *top = base + STACK_TOP_OFFSET;
    /* What lay here before belongs to another key. */
    if (key_protect(top - STACK_INITIAL, STACK_INITIAL + HEAP_INITIAL, PROT_READ | PROT_WRITE,
                    key) != 0) {
        return false;
    }
    *region = (struct region){
        .base = base, .key = key, .stack_low = top - STACK_INITIAL, .heap_end = top + HEAP_INITIAL};
    return true;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Doubling, so that growing to any size takes a handful of faults. */
static size_t enough(size_t now, size_t wanted, size_t most)
{
    while (now < wanted) {
        now *= 2;
    }
    return smaller(now, most);
}

bool region_grow(struct region *region, uintptr_t address)
{
    uint8_t *top = region->base + STACK_TOP_OFFSET;
    uintptr_t low = (uintptr_t)region->base + STACK_LOW_OFFSET;
    if (address >= low && address < (uintptr_t)region->stack_low) {
        size_t now = (size_t)(top - region->stack_low);
        size_t size = enough(now, (uintptr_t)top - address, STACK_MAX);
        if (key_protect(top - size, size - now, PROT_READ | PROT_WRITE, region->key) != 0) {
            return false;
        }
        region->stack_low = top - size;
        return true;
    }
    uintptr_t heap = (uintptr_t)region_heap(region);
    if (address >= (uintptr_t)region->heap_end && address < heap + HEAP_MAX) {
        size_t now = (uintptr_t)region->heap_end - heap;
        size_t size = enough(now, address - heap + 1, HEAP_MAX);
        if (key_protect(region->heap_end, size - now, PROT_READ | PROT_WRITE, region->key) != 0) {
            return false;
        }
        region->heap_end = (uint8_t *)heap + size;
        return true;
    }
    return false;
}

uint8_t *region_arguments(struct region *region, size_t size)
{
    uint8_t *memory = region->base + ARGUMENTS_OFFSET;
    if (__builtin_expect(size <= region->arguments, 1)) {
        return memory;
    }
    if (size > ARGUMENTS_MAX) {
        errno = E2BIG;
        return NULL;
    }
    size_t now = region->arguments;
    size_t wanted = enough(now == 0 ? 16 * PAGE : now, size, ARGUMENTS_MAX);
    if (key_protect(memory + now, wanted - now, PROT_READ | PROT_WRITE, region->key) != 0) {
        return NULL;
    }
    region->arguments = wanted;
    return memory;
}

static bool empty(uint8_t *begin, const uint8_t *end)
{
    return madvise(begin, (size_t)(end - begin), MADV_DONTNEED) == 0;
}

static bool give_back(uint8_t *begin, const uint8_t *end)
{
    return empty(begin, end) && mprotect(begin, (size_t)(end - begin), PROT_NONE) == 0;
}

bool region_discard(struct region *region, bool readable)
{
    uint8_t *top = region->base + STACK_TOP_OFFSET;
    uint8_t *stack_low = top - STACK_INITIAL;
    if (region->stack_low < stack_low) {
        if (!give_back(region->stack_low, stack_low)) {
            return false;
        }
        region->stack_low = stack_low;
    }
    uint8_t *heap_end = top + HEAP_INITIAL;
    if (region->heap_end > heap_end && readable) {
        return empty(heap_end, region->heap_end);
    }
    if (region->heap_end > heap_end) {
        if (!give_back(heap_end, region->heap_end)) {
            return false;
        }
        region->heap_end = heap_end;
    }
    return true;
}

/* Fresh pages over everything: whatever the slot held, and under whichever keys. */
bool region_close(struct region *region)
{
    void *fresh = mmap(region->base, SLOT_SIZE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (fresh == MAP_FAILED) {
        return false;
    }
    region->base = NULL;
    return true;
}
