/*
 * A fuzz target for the frames of native/foreign/dispatch.c: the input is a frame.
 *
 *   byte 0  how far from an aligned address the frame lies, modulo 16
 *   byte 1  which function is called, modulo the number of them
 *   then    the frame; its first eight bytes, the function's address, are filled in
 *
 * A frame is refused or answered. An answer has the lengths that add up to it, each within its
 * buffer's capacity, so that whoever checks it finds it well-formed.
 *
 * libFuzzer calls this (README.md), and so does tests/native/fuzz_corpus.c.
 */
#include "require.h"

#include <stdlib.h>
#include <string.h>

/* No frame of a few hundred bytes gets a gigabyte: the sandbox's own limit, made small. */
enum { ROOM = 1 << 20 };

static void *limited_malloc(size_t size)
{
    return size <= ROOM ? malloc(size) : NULL;
}

static void *limited_calloc(size_t count, size_t size)
{
    return count <= ROOM / size ? calloc(count, size) : NULL;
}

#define malloc limited_malloc
#define calloc limited_calloc
#include "../../native/foreign/dispatch.c"
#undef malloc
#undef calloc

/* ---- the functions that are called: none touches memory that a frame names ---- */

static bool called;

/* The type that all are called by; what it does not name stays where it is. */
static U first_argument(INTEGER_TYPES, FLOATING_TYPES, STACK_TYPES);
static double first_floating(INTEGER_TYPES, FLOATING_TYPES, STACK_TYPES);

#define UNUSED __attribute__((unused))
#define INTEGER_PARAMETERS_6 U a UNUSED, U b UNUSED, U c UNUSED, U d UNUSED, U e UNUSED, U f UNUSED
#if defined(__x86_64__)
#define INTEGER_PARAMETERS INTEGER_PARAMETERS_6
#else
#define INTEGER_PARAMETERS INTEGER_PARAMETERS_6, U g UNUSED, U h UNUSED
#endif
#define FLOATING_PARAMETERS                                                                        \
    double fa UNUSED, double fb UNUSED, double fc UNUSED, double fd UNUSED, double fe UNUSED,      \
        double ff UNUSED, double fg UNUSED, double fh UNUSED
#define STACK_PARAMETERS                                                                           \
    U sa UNUSED, U sb UNUSED, U sc UNUSED, U sd UNUSED, U se UNUSED, U sf UNUSED, U sg UNUSED,     \
        U sh UNUSED, U si UNUSED, U sj UNUSED, U sk UNUSED, U sl UNUSED, U sm UNUSED, U sn UNUSED, \
        U so UNUSED, U sp UNUSED

static U first_argument(INTEGER_PARAMETERS, FLOATING_PARAMETERS, STACK_PARAMETERS)
{
    called = true;
    return a + sp;
}

static double first_floating(INTEGER_PARAMETERS, FLOATING_PARAMETERS, STACK_PARAMETERS)
{
    called = true;
    return fa;
}

static U a_string(INTEGER_PARAMETERS, FLOATING_PARAMETERS, STACK_PARAMETERS)
{
    called = true;
    return (U)(uintptr_t)"a string that is returned";
}

static U nothing(INTEGER_PARAMETERS, FLOATING_PARAMETERS, STACK_PARAMETERS)
{
    called = true;
    return 0;
}

/* One that fits how the frame takes the result. */
static uint64_t address_for(const struct header *header, uint8_t choice)
{
    if (header->floating != 0) {
        /* A frame that takes it for a string, too, is not for a function that exists. */
        return header->string_limit == 0 ? (uint64_t)(uintptr_t)first_floating : 0;
    }
    if (header->string_limit != 0 || choice % 2 == 0) {
        bool whole = header->result_size >= sizeof(uint64_t);
        return (uint64_t)(uintptr_t)(choice % 4 < 2 || !whole ? nothing : a_string);
    }
    return (uint64_t)(uintptr_t)first_argument;
}

/* ---- what must hold ---- */

static void check_reply(const struct iso_bytes *output, const uint8_t *frame)
{
    struct header header;
    struct reply reply;
    REQUIRE(called);
    REQUIRE(output->length >= sizeof(reply));
    memcpy(&header, frame, sizeof(header));
    memcpy(&reply, output->data, sizeof(reply));
    size_t position = sizeof(reply);
    uint64_t total = sizeof(reply) + reply.string_length;
    const uint8_t *entry = frame + sizeof(header) + header.argument_count * sizeof(struct argument);
    for (size_t i = 0; i < header.buffer_count; i++, entry += sizeof(struct buffer)) {
        struct buffer buffer;
        memcpy(&buffer, entry, sizeof(buffer));
        if (buffer.extent == EXTENT_NONE) {
            continue;
        }
        uint64_t length = 0;
        REQUIRE(output->length - position >= sizeof(length));
        memcpy(&length, output->data + position, sizeof(length));
        REQUIRE(length <= buffer.capacity);
        position += sizeof(length);
        total += sizeof(length) + length;
    }
    REQUIRE(total == output->length);
    REQUIRE(reply.string_length <= header.string_limit);
    if (header.result_size < sizeof(reply.result)) {
        REQUIRE(reply.result >> (8 * header.result_size) == 0);
    }
    uint8_t *copy = malloc(output->length); /* reads each byte of it */
    REQUIRE(copy != NULL);
    memcpy(copy, output->data, output->length);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEAD = 2 };
    if (size < HEAD || size > ROOM) {
        return 0;
    }
    size_t length = size - HEAD;
    size_t shift = data[0] % ALIGNMENT;
    uint8_t *memory = malloc(shift + length); /* exactly: AddressSanitizer sees each byte beyond */
    REQUIRE(memory != NULL || shift + length == 0);
    uint8_t *frame = memory + shift;
    if (length > 0) {
        memcpy(frame, data + HEAD, length);
    }
    struct header header;
    if (length >= sizeof(header)) {
        memcpy(&header, frame, sizeof(header));
        header.function = address_for(&header, data[1]);
        memcpy(frame, &header, sizeof(header));
        if (header.function == 0) {
            free(memory);
            return 0;
        }
    }
    called = false;
    struct iso_bytes output = {0};
    int code = dispatch_call(frame, length, &output);
    if (code == 0) {
        check_reply(&output, frame);
    } else {
        REQUIRE(code == NO_MEMORY || code == MALFORMED);
        REQUIRE(output.data == NULL && output.length == 0 && !called);
    }
    free(output.data);
    free(memory);
    return 0;
}
