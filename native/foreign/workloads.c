/*
 * The foreign functions that the workloads call. They live in a library of their own, as foreign
 * code does: nothing of the project's is linked into it, and the compiler sees neither side of the
 * call from the other.
 */
#include "isolation.h"

#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>

/* The codes of snappy_status, and one of ours for the reason that snappy does not have. */
enum { NO_MEMORY = 100 };

int foreign_empty(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int foreign_compress(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int foreign_uncompress(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int foreign_validate(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int foreign_fault(const uint8_t *input, size_t input_length, struct iso_bytes *output);

int foreign_empty(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    (void)input;
    (void)input_length;
    (void)output;
    return 0;
}

int foreign_compress(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    size_t length = snappy_max_compressed_length(input_length);
    char *compressed = malloc(length);
    if (compressed == NULL) {
        return NO_MEMORY;
    }
    snappy_status status = snappy_compress((const char *)input, input_length, compressed, &length);
    if (status != SNAPPY_OK) {
        free(compressed);
        return (int)status;
    }
    *output = (struct iso_bytes){(uint8_t *)compressed, length};
    return 0;
}

int foreign_uncompress(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    size_t length = 0;
    snappy_status status = snappy_uncompressed_length((const char *)input, input_length, &length);
    if (status != SNAPPY_OK) {
        return (int)status;
    }
    if (length == 0) {
        return (int)snappy_validate_compressed_buffer((const char *)input, input_length);
    }
    char *uncompressed = malloc(length);
    if (uncompressed == NULL) {
        return NO_MEMORY;
    }
    status = snappy_uncompress((const char *)input, input_length, uncompressed, &length);
    if (status != SNAPPY_OK) {
        free(uncompressed);
        return (int)status;
    }
    *output = (struct iso_bytes){(uint8_t *)uncompressed, length};
    return 0;
}

/* Snappy's own word on whether the input is what it could have written. */
int foreign_validate(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    (void)output;
    return (int)snappy_validate_compressed_buffer((const char *)input, input_length);
}

/* Uses 64 KiB of heap; then, if there is any input, writes to address 0. */
int foreign_fault(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    enum { BLOCKS = 16, BLOCK = 4096 };
    char *blocks[BLOCKS];
    volatile int *volatile nowhere = NULL; /* or the compiler makes a trap of it */
    (void)input;
    (void)output;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK);
        if (blocks[i] == NULL) {
            return NO_MEMORY;
        }
        memset(blocks[i], i, BLOCK);
        __asm__ volatile("" : : "r"(blocks[i]) : "memory"); /* or the compiler leaves it out */
    }
    if (input_length > 0) {
        *nowhere = 1;
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    return 0;
}
