#include "serialised.h"

#include "heap.h"
#include "region.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint8_t *serialise_input(struct domain *domain, const struct codec *codec,
                         const struct iso_request *request, size_t *length, struct iso_fault *fault)
{
    /* Encoding only reads. */
    const struct codec_vector input = {.data = (void *)(uintptr_t)request->input,
                                       .capacity = request->input_length,
                                       .length = request->input_length};
    size_t bound = codec->bound(&codec_bytes_type, &input);
    uint8_t *arguments = region_arguments(&domain->region, bound);
    if (arguments == NULL) {
        *fault = (struct iso_fault){
            .exit_code = -1, .system_errno = errno, .what = "room for the arguments"};
        return NULL;
    }
    if (codec->encode(&codec_bytes_type, &input, arguments, bound, length) != CODEC_OK) {
        *fault = (struct iso_fault){
            .exit_code = -1, .system_errno = EINVAL, .what = "encoding the arguments"};
        return NULL;
    }
    return arguments;
}

/* ---- inside ---- */

struct heap_memory {
    struct codec_memory memory;
    struct heap *heap;
    void *block; /* the one that decoding a byte vector takes, if any */
};

static void *allocate_inside(struct codec_memory *memory, size_t size, size_t alignment)
{
    struct heap_memory *ours = (struct heap_memory *)memory; /* its first field */
    ours->block = heap_allocate_aligned(ours->heap, alignment, size);
    return ours->block;
}

/* What cannot go wrong unless the domain's memory is overwritten ends the call. */
int domain_invoke_serialised(uint8_t *arguments, size_t length, struct iso_bytes *output,
                             iso_function *function)
{
    struct core *core = (struct core *)output; /* its first field */
    struct heap *heap = &core->heap;
    const struct codec *codec = core->codec;
    if (core->retired != NULL) {
        void *retired = core->retired;
        core->retired = NULL;
        heap_free(heap, retired);
    }
    struct heap_memory decoded = {.memory = {allocate_inside}, .heap = heap};
    struct codec_vector input = {0};
    size_t used;
    if (length != 0 && codec->decode(&codec_bytes_type, arguments, length, &decoded.memory, &input,
                                     &used) != CODEC_OK) {
        __builtin_trap();
    }
    struct iso_bytes result = {0};
    int code = function(input.data, input.length, &result);
    if (decoded.block != NULL) {
        heap_free(heap, decoded.block);
    }
    if (code != 0 || result.length == 0) {
        if (result.data != NULL) {
            heap_free(heap, result.data);
        }
        return code;
    }
    const struct codec_vector value = {
        .data = result.data, .capacity = result.length, .length = result.length};
    size_t bound = codec->bound(&codec_bytes_type, &value);
    uint8_t *encoded = heap_allocate(heap, bound);
    if (encoded == NULL ||
        codec->encode(&codec_bytes_type, &value, encoded, bound, &used) != CODEC_OK) {
        __builtin_trap();
    }
    heap_free(heap, result.data);
    *output = (struct iso_bytes){encoded, used};
    return 0;
}

/* ---- outside ---- */

struct process_memory {
    struct codec_memory memory;
    void *block;
};

static void *allocate_outside(struct codec_memory *memory, size_t size, size_t alignment)
{
    struct process_memory *ours = (struct process_memory *)memory; /* its first field */
    (void)alignment;                                               /* of bytes */
    if (ours->block != NULL) {
        return NULL; /* a byte vector takes one */
    }
    ours->block = malloc(size);
    return ours->block;
}

enum codec_status deserialise_output(const struct codec *codec, uint8_t *encoded, size_t length,
                                     struct iso_bytes *output)
{
    struct process_memory owned = {.memory = {allocate_outside}};
    struct codec_vector value;
    size_t used;
    enum codec_status status =
        codec->decode(&codec_bytes_type, encoded, length, &owned.memory, &value, &used);
    if (status != CODEC_OK || value.length == 0) {
        free(owned.block);
        return status;
    }
    if (owned.block == NULL) { /* borrowed from what the domain can write */
        owned.block = malloc(value.length);
        if (owned.block == NULL) {
            return CODEC_NO_MEMORY;
        }
        memcpy(owned.block, value.data, value.length);
    }
    *output = (struct iso_bytes){owned.block, value.length};
    return CODEC_OK;
}
