/*
 * What a byte costs, for valgrind to count: `codec_cost CODEC OPERATION LENGTH` encodes a byte
 * vector once and, when told to, decodes it.
 */
#include "../../native/codec/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct heap {
    struct codec_memory memory;
    void *block;
};

static void *allocate(struct codec_memory *memory, size_t size, size_t alignment)
{
    (void)alignment;
    return ((struct heap *)memory)->block = malloc(size);
}

int main(int count, char **arguments)
{
    const struct codec *codec = count == 4 ? codec_find(arguments[1]) : NULL;
    if (codec == NULL) {
        fprintf(stderr, "usage: codec_cost CODEC encode|both LENGTH\n");
        return 2;
    }
    size_t length = strtoul(arguments[3], NULL, 10);
    struct codec_vector vector = {calloc(1, length), length, length};
    size_t bound = codec->bound(&codec_bytes_type, &vector);
    uint8_t *buffer = malloc(bound);
    struct heap heap = {.memory = {allocate}};
    struct codec_vector decoded;
    size_t used = 0;
    int status = 1;
    if (vector.data != NULL && buffer != NULL) {
        status = codec->encode(&codec_bytes_type, &vector, buffer, bound, &used) != CODEC_OK;
        if (status == 0 && strcmp(arguments[2], "both") == 0) {
            status = codec->decode(&codec_bytes_type, buffer, used, &heap.memory, &decoded,
                                   &used) != CODEC_OK;
        }
    }
    free(heap.block);
    free(buffer);
    free(vector.data);
    return status;
}
