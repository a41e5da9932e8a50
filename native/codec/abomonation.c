/*
 * abomonation: memory as it lies, and pointers made right where it lands.
 *
 * https://github.com/TimelyDataflow/abomonation
 *
 * The encoded form is the value's memory, then the content of its vectors, each in turn as a walk
 * through the value (a tuple's fields in order, a list's elements in order) comes to it: first the
 * whole content of a vector, then what that points to. Three words and their content, for a byte
 * vector.
 *
 * What differs from the crate makes it decodable in place, and fit for an encoder that is not
 * trusted or a reader who is not:
 *
 * - Content lies at a multiple of its elements' alignment, counted from the beginning of the
 * encoded form, after up to alignment - 1 bytes of zero. So a buffer that is aligned for the type's
 *   vectors (8 bytes do for all; byte strings and text need nothing) has them all aligned.
 * - The word for a vector's pointer is that offset, not an address of the encoder's; 0 where there
 * is no content. Decoding takes the one that the walk leads to and no other.
 * - Padding, and the value's place in an empty option, are zero: what lay there stays home.
 *
 * Version 1 visits each byte of a byte vector when it encodes and when it decodes, to do nothing
 * with it. The optimiser sees through that at -O1; the paper's Figure 4 is about -O0. Version 2
 * does not.
 */
#include "level.h"

#include <string.h>

struct writer {
    uint8_t *buffer;
    size_t room;
    size_t used;
    size_t empty_elements; /* that may still come */
    bool visit_bytes;      /* version 1 */
};

struct reader {
    uint8_t *buffer;
    size_t length;
    size_t used;
    size_t empty_elements; /* that may still come */
    bool visit_bytes;      /* version 1 */
};

/* A byte points to nothing. */
static void visit_byte(const uint8_t *byte)
{
    (void)byte;
}

static void visit_bytes(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        visit_byte(bytes + i);
    }
}

static const struct codec_type *element_of(const struct codec_type *vector)
{
    return vector->kind == CODEC_LIST ? vector->element : &codec_u8_type;
}

/* Integers and floats are whole when they are copied. */
static bool is_plain(const struct codec_type *type)
{
    return type->kind < CODEC_BOOL;
}

static void clear(uint8_t *begin, const uint8_t *end)
{
    while (begin < end) {
        *begin++ = 0;
    }
}

/* ---- encoding ---- */

static enum codec_status entomb(struct writer *writer, const struct codec_type *type, uint8_t *copy,
                                unsigned depth);

/* `copy` is the vector's header in the encoded form, at whatever alignment the buffer has. */
static enum codec_status entomb_vector(struct writer *writer, const struct codec_type *type,
                                       uint8_t *copy, unsigned depth)
{
    const struct codec_type *element = element_of(type);
    struct codec_vector vector;
    memcpy(&vector, copy, sizeof(vector));
    const void *content = vector.data;
    vector.data = NULL;
    size_t size = codec_multiply(vector.length, element->size);
    if (size == 0) {
        memcpy(copy, &vector, sizeof(vector));
        return codec_take_empty(&writer->empty_elements, vector.length);
    }
    size_t offset = codec_align(writer->used, element->alignment);
    if (offset > writer->room || size > writer->room - offset) {
        return CODEC_TRUNCATED;
    }
    clear(writer->buffer + writer->used, writer->buffer + offset);
    memcpy(writer->buffer + offset, content, size);
    writer->used = offset + size;
    vector.data = (void *)offset; /* a word, by now */
    memcpy(copy, &vector, sizeof(vector));

    uint8_t *next = writer->buffer + offset;
    if (type->kind == CODEC_BYTES && writer->visit_bytes) {
        visit_bytes(next, size);
    }
    enum codec_status status = CODEC_OK;
    if (type->kind == CODEC_LIST) {
        for (size_t left = vector.length; status == CODEC_OK && left > 0; left--) {
            status = entomb(writer, element, next, depth + 1);
            next += element->size;
        }
    }
    return status;
}

static enum codec_status entomb_option(struct writer *writer, const struct codec_type *type,
                                       uint8_t *copy, unsigned depth)
{
    uint8_t *value = copy + codec_option_offset(type);
    if (*copy == 0) {
        clear(copy, copy + type->size);
        return CODEC_OK;
    }
    clear(copy + 1, value);
    clear(value + type->element->size, copy + type->size);
    return entomb(writer, type->element, value, depth + 1);
}

static enum codec_status entomb_fields(struct writer *writer, const struct codec_type *type,
                                       uint8_t *copy, unsigned depth)
{
    size_t offset = 0;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct codec_type *field = type->fields[i];
        size_t next = codec_align(offset, field->alignment);
        clear(copy + offset, copy + next);
        enum codec_status status = entomb(writer, field, copy + next, depth + 1);
        if (status != CODEC_OK) {
            return status;
        }
        offset = next + field->size;
    }
    clear(copy + offset, copy + type->size);
    return CODEC_OK;
}

/* Visits a value whose memory has been copied already. */
static enum codec_status entomb(struct writer *writer, const struct codec_type *type, uint8_t *copy,
                                unsigned depth)
{
    if (depth >= CODEC_DEPTH_MAX) {
        return CODEC_TOO_DEEP;
    }
    switch (type->kind) {
    case CODEC_BYTES:
    case CODEC_TEXT:
    case CODEC_LIST:
        return entomb_vector(writer, type, copy, depth);
    case CODEC_OPTION:
        return entomb_option(writer, type, copy, depth);
    case CODEC_TUPLE:
        return entomb_fields(writer, type, copy, depth);
    default:
        return CODEC_OK;
    }
}

/* ---- decoding ---- */

static enum codec_status exhume(struct reader *reader, const struct codec_type *type,
                                uint8_t *value, unsigned depth);

static enum codec_status exhume_vector(struct reader *reader, const struct codec_type *type,
                                       struct codec_vector *vector, unsigned depth)
{
    const struct codec_type *element = element_of(type);
    size_t length = vector->length;
    size_t size = codec_multiply(length, element->size);
    size_t offset = size == 0 ? 0 : codec_align(reader->used, element->alignment);
    if (vector->capacity < length) {
        return CODEC_MALFORMED;
    }
    if (size > 0 && (offset > reader->length || size > reader->length - offset)) {
        return CODEC_TRUNCATED;
    }
    if ((uintptr_t)vector->data != offset) {
        return CODEC_MALFORMED;
    }
    *vector = (struct codec_vector){.data = NULL, .capacity = length, .length = length};
    if (size == 0) { /* no elements, or such as have no size */
        return codec_take_empty(&reader->empty_elements, length);
    }
    uint8_t *next = reader->buffer + offset;
    if ((uintptr_t)next % element->alignment != 0) {
        return CODEC_MISALIGNED;
    }
    reader->used = offset + size;
    vector->data = next;

    if (type->kind == CODEC_BYTES && reader->visit_bytes) {
        visit_bytes(next, size);
    }
    if (type->kind == CODEC_TEXT) {
        return codec_is_utf8(next, size) ? CODEC_OK : CODEC_MALFORMED;
    }
    enum codec_status status = CODEC_OK;
    if (type->kind == CODEC_LIST) {
        for (size_t left = length; status == CODEC_OK && left > 0; left--) {
            status = exhume(reader, element, next, depth + 1);
            next += element->size;
        }
    }
    return status;
}

static enum codec_status exhume_option(struct reader *reader, const struct codec_type *type,
                                       uint8_t *value, unsigned depth)
{
    if (*value > 1) {
        return CODEC_MALFORMED;
    }
    if (*value == 0) {
        return CODEC_OK;
    }
    return exhume(reader, type->element, value + codec_option_offset(type), depth + 1);
}

static enum codec_status exhume_fields(struct reader *reader, const struct codec_type *type,
                                       uint8_t *value, unsigned depth)
{
    size_t offset = 0;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct codec_type *field = type->fields[i];
        offset = codec_align(offset, field->alignment);
        enum codec_status status = exhume(reader, field, value + offset, depth + 1);
        if (status != CODEC_OK) {
            return status;
        }
        offset += field->size;
    }
    return CODEC_OK;
}

/* Makes a value's pointers right, where it lies. */
static enum codec_status exhume(struct reader *reader, const struct codec_type *type,
                                uint8_t *value, unsigned depth)
{
    if (depth >= CODEC_DEPTH_MAX) {
        return CODEC_TOO_DEEP;
    }
    switch (type->kind) {
    case CODEC_BOOL:
        return *value > 1 ? CODEC_MALFORMED : CODEC_OK;
    case CODEC_BYTES:
    case CODEC_TEXT:
    case CODEC_LIST:
        return exhume_vector(reader, type, (struct codec_vector *)value, depth);
    case CODEC_OPTION:
        return exhume_option(reader, type, value, depth);
    case CODEC_TUPLE:
        return exhume_fields(reader, type, value, depth);
    default:
        return CODEC_OK;
    }
}

/* ---- bounds ---- */

/* What a value takes beyond its own memory, with the most that alignment may add. */
static size_t content(const struct codec_type *type, const uint8_t *value, unsigned depth);

static size_t content_of_vector(const struct codec_type *type, const struct codec_vector *vector,
                                unsigned depth)
{
    const struct codec_type *element = element_of(type);
    size_t sum = codec_multiply(vector->length, element->size);
    if (sum == 0) {
        return 0;
    }
    sum = codec_add(sum, element->alignment - 1);
    if (is_plain(element)) {
        return sum;
    }
    const uint8_t *next = vector->data;
    for (size_t i = 0; sum < SIZE_MAX && i < vector->length; i++) {
        sum = codec_add(sum, content(element, next, depth + 1));
        next += element->size;
    }
    return sum;
}

static size_t content_of_fields(const struct codec_type *type, const uint8_t *value, unsigned depth)
{
    size_t sum = 0;
    size_t offset = 0;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct codec_type *field = type->fields[i];
        offset = codec_align(offset, field->alignment);
        sum = codec_add(sum, content(field, value + offset, depth + 1));
        offset += field->size;
    }
    return sum;
}

static size_t content(const struct codec_type *type, const uint8_t *value, unsigned depth)
{
    if (depth >= CODEC_DEPTH_MAX) {
        return 0; /* encoding gets no further */
    }
    switch (type->kind) {
    case CODEC_BYTES:
    case CODEC_TEXT:
    case CODEC_LIST:
        return content_of_vector(type, (const struct codec_vector *)value, depth);
    case CODEC_OPTION:
        return *value == 0 ? 0
                           : content(type->element, value + codec_option_offset(type), depth + 1);
    case CODEC_TUPLE:
        return content_of_fields(type, value, depth);
    default:
        return 0;
    }
}

static size_t bound(const struct codec_type *type, const void *value)
{
    return codec_add(type->size, content(type, value, 0));
}

/* ---- the two versions ---- */

static enum codec_status encode(bool visit, const struct codec_type *type, const void *value,
                                uint8_t *buffer, size_t room, size_t *used)
{
    struct writer writer = {.buffer = buffer,
                            .room = room,
                            .used = type->size,
                            .empty_elements = CODEC_EMPTY_ELEMENTS_MAX,
                            .visit_bytes = visit};
    *used = 0;
    if (room < type->size) {
        return CODEC_TRUNCATED;
    }
    if (type->size > 0) {
        memcpy(buffer, value, type->size);
    }
    enum codec_status status = entomb(&writer, type, buffer, 0);
    *used = writer.used;
    return status;
}

/* The value's own memory moves to *value; all else is left in the buffer. */
static enum codec_status decode(bool visit, const struct codec_type *type, uint8_t *buffer,
                                size_t length, void *value, size_t *used)
{
    struct reader reader = {.buffer = buffer,
                            .length = length,
                            .used = type->size,
                            .empty_elements = CODEC_EMPTY_ELEMENTS_MAX,
                            .visit_bytes = visit};
    *used = 0;
    if (length < type->size) {
        return CODEC_TRUNCATED;
    }
    if (type->size > 0) {
        memcpy(value, buffer, type->size);
    }
    enum codec_status status = exhume(&reader, type, value, 0);
    *used = reader.used;
    return status;
}

#define VERSION(version, visit)                                                                    \
    static enum codec_status encode_##version(const struct codec_type *type, const void *value,    \
                                              uint8_t *buffer, size_t room, size_t *used)          \
    {                                                                                              \
        return encode(visit, type, value, buffer, room, used);                                     \
    }                                                                                              \
    static enum codec_status decode_##version(const struct codec_type *type, uint8_t *buffer,      \
                                              size_t length, struct codec_memory *memory,          \
                                              void *value, size_t *used)                           \
    {                                                                                              \
        (void)memory;                                                                              \
        return decode(visit, type, buffer, length, value, used);                                   \
    }                                                                                              \
    const struct codec CODEC_SYMBOL(abomonation_##version, CODEC_LEVEL) = {                        \
        CODEC_NAME("abomonation-" #version, CODEC_LEVEL), bound, encode_##version,                 \
        decode_##version}

VERSION(v1, true);
VERSION(v2, false);
