/*
 * A fuzz target for the codecs: the input is a codec, a type and what a hostile encoder may have
 * sent as a value of it.
 *
 *   byte 0  the codec that decodes (low half) and another (high half), as they lie in codecs[]
 *   byte 1  how far from an aligned address the encoded form lies, modulo 8
 *   then    a type in prefix order: a kind modulo 16; of a tuple the high half is its field count
 *   then    the encoded form
 *
 * What decodes must be a valid value, every byte of it readable, and survive encoding: byte for
 * byte where a value has one encoded form, and by way of the other codec.
 *
 * libFuzzer calls this (README.md), and so does tests/native/fuzz_corpus.c.
 */
#include "require.h"

#include "../../native/codec/codec.h"

#include <stdlib.h>
#include <string.h>

static void *allocate_or_abort(size_t size)
{
    void *memory = malloc(size); /* exactly: AddressSanitizer sees each byte beyond */
    REQUIRE(memory != NULL || size == 0);
    return memory;
}

/* ---- the input ---- */

struct input {
    const uint8_t *next;
    size_t left;
};

static uint8_t next_byte(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->next++;
}

enum { TYPES_MAX = 80, FIELDS_MAX = 15 }; /* deep enough for CODEC_TOO_DEEP */

struct types {
    struct codec_type types[TYPES_MAX];
    const struct codec_type *fields[TYPES_MAX][FIELDS_MAX];
    size_t count;
};

static size_t align(size_t offset, size_t alignment)
{
    return (offset + alignment - 1) / alignment * alignment;
}

static void lay_out(struct codec_type *type)
{
    static const uint8_t plain[] = {
        [CODEC_U8] = 1,  [CODEC_U16] = 2, [CODEC_U32] = 4, [CODEC_U64] = 8,
        [CODEC_I8] = 1,  [CODEC_I16] = 2, [CODEC_I32] = 4, [CODEC_I64] = 8,
        [CODEC_F32] = 4, [CODEC_F64] = 8, [CODEC_BOOL] = 1};
    size_t size = 0;
    size_t alignment = 1;
    switch (type->kind) {
    case CODEC_BYTES:
    case CODEC_TEXT:
    case CODEC_LIST:
        size = sizeof(struct codec_vector);
        alignment = _Alignof(struct codec_vector);
        break;
    case CODEC_OPTION:
        alignment = type->element->alignment;
        size = alignment + type->element->size;
        break;
    case CODEC_TUPLE:
        for (size_t i = 0; i < type->field_count; i++) {
            const struct codec_type *field = type->fields[i];
            size = align(size, field->alignment) + field->size;
            alignment = alignment > field->alignment ? alignment : field->alignment;
        }
        size = align(size, alignment);
        break;
    default:
        size = alignment = plain[type->kind];
    }
    type->size = size;
    type->alignment = alignment;
}

static const struct codec_type *next_type(struct input *input, struct types *types)
{
    uint8_t byte = next_byte(input);
    struct codec_type *type = &types->types[types->count];
    const struct codec_type **fields = types->fields[types->count];
    types->count++;
    *type = (struct codec_type){.kind = byte % 16};
    /* Each type that is begun has at least one place left for what it needs. */
    size_t places = TYPES_MAX - types->count;
    if ((type->kind == CODEC_LIST || type->kind == CODEC_OPTION) && places > 0) {
        type->element = next_type(input, types);
    } else if (type->kind == CODEC_TUPLE) {
        for (size_t i = 0; i < (size_t)byte / 16 && types->count < TYPES_MAX; i++) {
            fields[type->field_count++] = next_type(input, types);
        }
        type->fields = fields;
    } else if (type->kind >= CODEC_LIST) {
        type->kind = CODEC_BYTES;
    }
    lay_out(type);
    return type;
}

/* ---- memory ---- */

enum { BLOCKS_MAX = 1 << 16, BYTES_MAX = 1 << 26 };

struct arena {
    struct codec_memory memory;
    void **blocks;
    size_t count;
    size_t bytes;
};

static void *allocate(struct codec_memory *memory, size_t size, size_t alignment)
{
    struct arena *arena = (struct arena *)memory;
    REQUIRE(size > 0 && alignment <= 8);
    if (arena->count == BLOCKS_MAX || size > BYTES_MAX - arena->bytes) {
        return NULL;
    }
    arena->bytes += size;
    return arena->blocks[arena->count++] = allocate_or_abort(size);
}

static void empty(struct arena *arena)
{
    while (arena->count > 0) {
        free(arena->blocks[--arena->count]);
    }
    arena->bytes = 0;
}

/* ---- what must hold ---- */

static volatile uint8_t sink;

static void walk(const struct codec_type *type, const uint8_t *value)
{
    REQUIRE((uintptr_t)value % type->alignment == 0);
    if (type->kind == CODEC_BOOL || type->kind == CODEC_OPTION) {
        REQUIRE(*value <= 1);
        if (type->kind == CODEC_OPTION && *value == 1) {
            walk(type->element, value + type->element->alignment);
        }
    } else if (type->kind == CODEC_TUPLE) {
        size_t offset = 0;
        for (size_t i = 0; i < type->field_count; i++) {
            offset = align(offset, type->fields[i]->alignment);
            walk(type->fields[i], value + offset);
            offset += type->fields[i]->size;
        }
    } else if (type->kind >= CODEC_BYTES) {
        const struct codec_vector *vector = (const struct codec_vector *)value;
        size_t each = type->kind == CODEC_LIST ? type->element->size : 1;
        REQUIRE(vector->capacity >= vector->length);
        for (size_t i = 0; each > 0 && i < vector->length; i++) {
            const uint8_t *element = (const uint8_t *)vector->data + i * each;
            if (type->kind == CODEC_LIST) {
                walk(type->element, element);
            } else {
                sink = *element;
            }
        }
    } else {
        for (size_t i = 0; i < type->size; i++) {
            sink = value[i];
        }
    }
}

/* Encodes to a buffer of exactly the bytes that it takes; the caller frees it. */
static uint8_t *encode(const struct codec *codec, const struct codec_type *type, const void *value,
                       size_t *used)
{
    size_t bound = codec->bound(type, value);
    uint8_t *buffer = allocate_or_abort(bound);
    REQUIRE(codec->encode(type, value, buffer, bound, used) == CODEC_OK);
    REQUIRE(*used <= bound);
    uint8_t *exact = allocate_or_abort(*used);
    size_t again = 0;
    REQUIRE(codec->encode(type, value, exact, *used, &again) == CODEC_OK);
    REQUIRE(again == *used && (again == 0 || memcmp(buffer, exact, again) == 0));
    if (again > 0) {
        free(buffer);
        buffer = allocate_or_abort(again - 1);
        REQUIRE(codec->encode(type, value, buffer, again - 1, used) == CODEC_TRUNCATED);
    }
    free(buffer);
    *used = again;
    return exact;
}

/* The value's encoded form in `codec`, after a way through `other`. */
static uint8_t *encode_by_way_of(const struct codec *other, const struct codec *codec,
                                 const struct codec_type *type, const void *value,
                                 struct arena *arena, size_t *used)
{
    size_t length = 0;
    uint8_t *between = encode(other, type, value, &length);
    void *copy = allocate_or_abort(type->size);
    enum codec_status status = other->decode(type, between, length, &arena->memory, copy, used);
    uint8_t *result = NULL;
    if (status == CODEC_OK) {
        REQUIRE(*used == length);
        result = encode(codec, type, copy, used);
    } else {
        REQUIRE(status == CODEC_NO_MEMORY);
    }
    free(copy);
    free(between);
    return result;
}

static void check_decoded(const struct codec *codec, const struct codec *other,
                          const struct codec_type *type, const void *value, const uint8_t *encoded,
                          size_t length, struct arena *arena)
{
    walk(type, value);
    size_t first_length = 0;
    uint8_t *first = encode(codec, type, value, &first_length);
    REQUIRE(first_length == length);
    if (strncmp(codec->name, "bincode", strlen("bincode")) == 0) {
        REQUIRE(length == 0 || memcmp(first, encoded, length) == 0);
    }
    size_t second_length = 0;
    uint8_t *second = encode_by_way_of(other, codec, type, value, arena, &second_length);
    if (second != NULL) {
        REQUIRE(second_length == length && (length == 0 || memcmp(first, second, length) == 0));
    }
    free(second);
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *blocks[BLOCKS_MAX];
    static struct types types;
    struct input input = {.next = data, .left = size};
    uint8_t choice = next_byte(&input);
    const struct codec *codec = codecs[choice % 16];
    const struct codec *other = codecs[choice / 16];
    size_t shift = next_byte(&input) % 8;
    types.count = 0;
    const struct codec_type *type = next_type(&input, &types);
    struct arena arena = {.memory = {allocate}, .blocks = blocks};

    uint8_t *memory = allocate_or_abort(shift + input.left);
    uint8_t *buffer = memory + shift;
    if (input.left > 0) {
        memcpy(buffer, input.next, input.left);
    }
    void *value = allocate_or_abort(type->size);
    size_t used = 0;
    enum codec_status status = codec->decode(type, buffer, input.left, &arena.memory, value, &used);
    REQUIRE(used <= input.left);
    if (status == CODEC_OK) {
        check_decoded(codec, other, type, value, input.next, used, &arena);
    } else {
        REQUIRE(status <= CODEC_MISALIGNED);
        REQUIRE(status != CODEC_MISALIGNED || shift > 0);
    }
    free(value);
    free(memory);
    empty(&arena);
    return 0;
}
