/*
 * The allocator as a workload: pairs of malloc and free, of whatever heap the sandbox has. Each
 * block is written and read, so that the compiler leaves none out and a wrong block shows.
 *
 * The output of both functions: a checksum (uint64_t), the sum of the sizes and of what was read.
 */
#include "isolation.h"

#include <stdlib.h>
#include <string.h>

enum { NO_MEMORY = 100, BAD_INPUT = 101 };

int foreign_allocate_pairs(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int foreign_allocate_live(const uint8_t *input, size_t input_length, struct iso_bytes *output);

struct block {
    uint8_t *memory;
    uint16_t size;
};

/* One that holds the low byte of its size, where it has room for any. */
static inline bool take(struct block *block, uint16_t size)
{
    block->size = size;
    block->memory = malloc(size);
    if (block->memory == NULL) {
        return false;
    }
    if (size != 0) {
        block->memory[0] = (uint8_t)size;
    }
    __asm__ volatile("" : "+r"(block->memory) : : "memory");
    return true;
}

static inline uint64_t give_back(struct block *block)
{
    uint64_t found = block->size;
    if (block->size != 0) {
        found += block->memory[0];
    }
    free(block->memory);
    block->memory = NULL;
    return found;
}

static int answer(uint64_t checksum, struct iso_bytes *output)
{
    uint8_t *bytes = malloc(sizeof(checksum));
    if (bytes == NULL) {
        return NO_MEMORY;
    }
    memcpy(bytes, &checksum, sizeof(checksum));
    *output = (struct iso_bytes){bytes, sizeof(checksum)};
    return 0;
}

/* The input: sizes (uint16_t, little-endian). Allocates a block of each and frees it at once. */
int foreign_allocate_pairs(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    uint64_t checksum = 0;
    if (input_length % 2 != 0) {
        return BAD_INPUT;
    }
    for (size_t i = 0; i < input_length; i += 2) {
        struct block block;
        if (!take(&block, (uint16_t)(input[i] | input[i + 1] << 8))) {
            return NO_MEMORY;
        }
        checksum += give_back(&block);
    }
    return answer(checksum, output);
}

/*
 * The input: steps of a slot and a size (two uint16_t each, little-endian). A step frees the block
 * that is in the slot, if there is one, and allocates another there. In the end all are freed, so
 * that there are as many pairs as steps.
 */
int foreign_allocate_live(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    enum { SLOTS = 1000, STEP = 4 };
    struct block blocks[SLOTS] = {0};
    uint64_t checksum = 0;
    int code = input_length % STEP == 0 ? 0 : BAD_INPUT;
    for (size_t i = 0; i < input_length && code == 0; i += STEP) {
        unsigned slot = (unsigned)(input[i] | input[i + 1] << 8);
        if (slot >= SLOTS) {
            code = BAD_INPUT;
            break;
        }
        if (blocks[slot].memory != NULL) {
            checksum += give_back(&blocks[slot]);
        }
        if (!take(&blocks[slot], (uint16_t)(input[i + 2] | input[i + 3] << 8))) {
            code = NO_MEMORY;
        }
    }
    for (size_t slot = 0; slot < SLOTS; slot++) {
        if (blocks[slot].memory != NULL) {
            checksum += give_back(&blocks[slot]);
        }
    }
    return code == 0 ? answer(checksum, output) : code;
}
