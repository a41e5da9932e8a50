/* Memory errors, and what is made of them. */
#include "attack.h"

#include <stdlib.h>

ATTACK(write)
{
    mark(target_of(attack));
    return 0;
}

ATTACK(read)
{
    uint8_t *told = malloc(CANARY_LENGTH);
    if (told == NULL) {
        return 1;
    }
    memcpy(told, target_of(attack), CANARY_LENGTH);
    *output = (struct iso_bytes){told, CANARY_LENGTH};
    return 0;
}

ATTACK(write_null)
{
    *(volatile uint8_t *)NULL = 0x66;
    return 0;
}

ATTACK(read_null)
{
    return *(volatile uint8_t *)NULL;
}

/* From a block of its own towards the canary, at most 64 MiB. */
ATTACK(overflow)
{
    enum { FARTHEST = 64 << 20 };
    volatile uint8_t *block = malloc(CANARY_LENGTH);
    if (block == NULL) {
        return 1;
    }
    volatile uint8_t *end = target_of(attack) + CANARY_LENGTH;
    if (block < end) {
        for (size_t i = 0; block + i < end && i < FARTHEST; i++) {
            block[i] = 0x66;
        }
    } else {
        for (size_t i = 0; block - i >= target_of(attack) && i < FARTHEST; i++) {
            *(block - i) = 0x66;
        }
    }
    return 0;
}

/* ---- the allocator, led to give out the canary ---- */

enum { SIZE = 208 };

/* Takes what free blocks there are, so that those freed next are linked to nothing but each other.
 */
static void drain(void)
{
    for (int i = 0; i < 64; i++) {
        void *volatile block = malloc(SIZE);
        (void)block;
    }
}

/* A free block begins with the next one's address, mixed by XOR with `mask`. */
struct freed {
    uint8_t *block;
    uint64_t mask;
};

static void link_to(const struct freed *freed, const struct attack *attack)
{
    *(volatile uint64_t *)(void *)freed->block = freed->mask ^ attack->target;
}

/* Takes blocks, of which one is the canary by now, and uses them. */
static int use_blocks(void)
{
    for (int i = 0; i < 4; i++) {
        uint8_t *volatile block = malloc(SIZE);
        if (block != NULL) {
            mark(block);
        }
    }
    return 0;
}

/* Two blocks, freed one after the other: the first is what the second is linked to, as it is by a
 * domain's allocator, mixed with the place that the link is in by glibc's. UNABLE: by neither. */
static int free_two(struct freed *second)
{
    drain();
    uint8_t *volatile first = malloc(SIZE);
    uint8_t *volatile block = malloc(SIZE);
    if (first == NULL || block == NULL) {
        return 1;
    }
    free(first);
    free(block);
    uint64_t link = *(volatile uint64_t *)(void *)block;
    *second = (struct freed){block, link ^ (uintptr_t)first};
    return second->mask == 0 || second->mask == (uintptr_t)block >> 12 ? 0 : UNABLE;
}

ATTACK(use_after_free)
{
    struct freed second;
    int code = free_two(&second);
    if (code != 0) {
        return code;
    }
    link_to(&second, attack);
    return use_blocks();
}

/* The block's mark that it is free already, a key, is overwritten between. */
ATTACK(free_twice)
{
    struct freed second;
    int code = free_two(&second);
    if (code != 0) {
        return code;
    }
    ((volatile uint64_t *)(void *)second.block)[1] = 0;
    free(second.block);
    uint8_t *volatile again = malloc(SIZE); /* is the second, and still counts as free */
    if (again != second.block) {
        return UNABLE;
    }
    link_to(&second, attack);
    return use_blocks();
}

ATTACK(corrupt_allocator) /* all around a block, and use it */
{
    volatile uint8_t *block = malloc(SIZE);
    if (block == NULL) {
        return 1;
    }
    for (long i = -64; i < 4096; i++) {
        block[i] = 0xff;
    }
    for (size_t i = 0; i < 64; i++) {
        uint8_t *volatile more = malloc(i * 40);
        free(more);
    }
    free((void *)(uintptr_t)block);
    return 0;
}

ATTACK(free_target)
{
    free(target_of(attack));
    return 0;
}

/* ---- the stack ---- */

static __attribute__((noinline)) int smash(size_t length)
{
    volatile uint8_t frame[16];
    volatile uint8_t *at = frame;
    for (size_t i = 0; i < length; i++) {
        at[i] = 0x41;
    }
    return frame[0];
}

ATTACK(smash_stack)
{
    return smash(256);
}

/* GCC would turn the recursion into a loop if the frame were not used after it. */
static __attribute__((noinline)) int deeper(volatile uint8_t *above)
{
    volatile uint8_t frame[4096];
    frame[0] = above[0];
    return deeper(frame) + frame[0];
}

ATTACK(overflow_stack)
{
    volatile uint8_t frame[1] = {1};
    return deeper(frame);
}

/* Frames hold the caller's frame and, after it, where to return to. */
static __attribute__((noinline, optimize("no-omit-frame-pointer"))) void return_to(uint64_t address)
{
    volatile uint64_t *frame = __builtin_frame_address(0);
    frame[1] = address;
}

ATTACK(overwrite_return_address)
{
    return_to(attack->target);
    return 0;
}

/* ---- results ---- */

ATTACK(wild_output)
{
    *output = (struct iso_bytes){target_of(attack), CANARY_LENGTH};
    return 0;
}

ATTACK(long_output) /* 16 MiB, of a block below the canary that is not so long */
{
    *output = (struct iso_bytes){block_below(attack, 24), (size_t)16 << 20};
    return 0;
}

ATTACK(inner_output) /* within a block, where none begins */
{
    uint8_t *block = malloc(CANARY_LENGTH);
    if (block == NULL) {
        return 1;
    }
    memset(block, 0xff, CANARY_LENGTH);
    *output = (struct iso_bytes){block + 24, 16};
    return 0;
}

ATTACK(null_output)
{
    *output = (struct iso_bytes){NULL, 4096};
    return 0;
}
