/* Encoding, and bounds on what it takes. */
#include "bincode.h"

#include <string.h>

struct writer {
    uint8_t *next;
    const uint8_t *end;    /* of the room */
    size_t empty_elements; /* that may still come */
    bool variable;         /* version 2 */
};

/* ---- encoding ---- */

static enum codec_status put(struct writer *writer, const void *bytes, size_t length)
{
    if ((size_t)(writer->end - writer->next) < length) {
        return CODEC_TRUNCATED;
    }
    if (length > 0) {
        memcpy(writer->next, bytes, length);
    }
    writer->next += length;
    return CODEC_OK;
}

/* Called for each byte of a byte vector, as each element has its call: not to be merged into a copy
 * of them all. */
__attribute__((noinline)) static enum codec_status put_byte(struct writer *writer, uint8_t byte)
{
    if (writer->next == writer->end) {
        return CODEC_TRUNCATED;
    }
    *writer->next++ = byte;
    return CODEC_OK;
}

static enum codec_status put_unsigned(struct writer *writer, uint64_t value, size_t size)
{
    if (!writer->variable) {
        return put(writer, &value, size);
    }
    if (value < TAG_U16) {
        return put_byte(writer, (uint8_t)value);
    }
    uint8_t bytes[9];
    size_t shortest = value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
    bytes[0] = shortest == 2 ? TAG_U16 : shortest == 4 ? TAG_U32 : TAG_U64;
    memcpy(bytes + 1, &value, sizeof(value));
    return put(writer, bytes, 1 + shortest);
}

static enum codec_status put_signed(struct writer *writer, int64_t value, size_t size)
{
    uint64_t bits = (uint64_t)value;
    return put_unsigned(writer, writer->variable ? bits << 1 ^ -(bits >> 63) : bits, size);
}

static enum codec_status encode_value(struct writer *writer, const struct codec_type *type,
                                      const uint8_t *value, unsigned depth);

static enum codec_status encode_bytes(struct writer *writer, const struct codec_vector *vector)
{
    enum codec_status status = put_unsigned(writer, vector->length, sizeof(uint64_t));
    const uint8_t *next = vector->data;
    for (size_t i = 0; status == CODEC_OK && i < vector->length; i++) {
        status = put_byte(writer, *next++);
    }
    return status;
}

/* `depth` is the elements'. */
static enum codec_status encode_elements(struct writer *writer, const struct codec_type *element,
                                         const struct codec_vector *vector, unsigned depth)
{
    enum codec_status status = put_unsigned(writer, vector->length, sizeof(uint64_t));
    if (element->size == 0) {
        return status != CODEC_OK ? status
                                  : codec_take_empty(&writer->empty_elements, vector->length);
    }
    const uint8_t *next = vector->data;
    for (size_t i = 0; status == CODEC_OK && i < vector->length; i++) {
        status = encode_value(writer, element, next, depth);
        next += element->size;
    }
    return status;
}

static enum codec_status encode_text(struct writer *writer, const struct codec_vector *text)
{
    enum codec_status status = put_unsigned(writer, text->length, sizeof(uint64_t));
    return status == CODEC_OK ? put(writer, text->data, text->length) : status;
}

static enum codec_status encode_option(struct writer *writer, const struct codec_type *type,
                                       const uint8_t *value, unsigned depth)
{
    bool some = *value != 0;
    enum codec_status status = put_byte(writer, some);
    if (status != CODEC_OK || !some) {
        return status;
    }
    return encode_value(writer, type->element, value + codec_option_offset(type), depth + 1);
}

static enum codec_status encode_fields(struct writer *writer, const struct codec_type *type,
                                       const uint8_t *value, unsigned depth)
{
    size_t offset = 0;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct codec_type *field = type->fields[i];
        offset = codec_align(offset, field->alignment);
        enum codec_status status = encode_value(writer, field, value + offset, depth + 1);
        if (status != CODEC_OK) {
            return status;
        }
        offset += field->size;
    }
    return CODEC_OK;
}

static enum codec_status encode_value(struct writer *writer, const struct codec_type *type,
                                      const uint8_t *value, unsigned depth)
{
    if (depth >= CODEC_DEPTH_MAX) {
        return CODEC_TOO_DEEP;
    }
    switch (type->kind) {
    case CODEC_U8:
    case CODEC_I8:
        return put_byte(writer, *value);
    case CODEC_U16:
        return put_unsigned(writer, *(const uint16_t *)value, sizeof(uint16_t));
    case CODEC_U32:
        return put_unsigned(writer, *(const uint32_t *)value, sizeof(uint32_t));
    case CODEC_U64:
        return put_unsigned(writer, *(const uint64_t *)value, sizeof(uint64_t));
    case CODEC_I16:
        return put_signed(writer, *(const int16_t *)value, sizeof(int16_t));
    case CODEC_I32:
        return put_signed(writer, *(const int32_t *)value, sizeof(int32_t));
    case CODEC_I64:
        return put_signed(writer, *(const int64_t *)value, sizeof(int64_t));
    case CODEC_F32:
    case CODEC_F64:
        return put(writer, value, type->size);
    case CODEC_BOOL:
        return put_byte(writer, *value != 0);
    case CODEC_BYTES:
        return encode_bytes(writer, (const struct codec_vector *)value);
    case CODEC_TEXT:
        return encode_text(writer, (const struct codec_vector *)value);
    case CODEC_LIST:
        return encode_elements(writer, type->element, (const struct codec_vector *)value,
                               depth + 1);
    case CODEC_OPTION:
        return encode_option(writer, type, value, depth);
    case CODEC_TUPLE:
        return encode_fields(writer, type, value, depth);
    }
    return CODEC_MALFORMED;
}

/* ---- bounds ---- */

/* Version 2 needs a tag more than version 1 at most, for each integer and each length. */
static size_t bound_of_value(bool variable, const struct codec_type *type, const uint8_t *value,
                             unsigned depth);

static size_t bound_of_elements(bool variable, const struct codec_type *element,
                                const struct codec_vector *vector, unsigned depth)
{
    size_t sum = sizeof(uint64_t) + variable;
    const uint8_t *next = vector->data;
    if (element->kind <= CODEC_BOOL) {
        size_t each = bound_of_value(variable, element, next, depth);
        return codec_add(sum, codec_multiply(vector->length, each));
    }
    for (size_t i = 0; element->size > 0 && sum < SIZE_MAX && i < vector->length; i++) {
        sum = codec_add(sum, bound_of_value(variable, element, next, depth));
        next += element->size;
    }
    return sum;
}

static size_t bound_of_fields(bool variable, const struct codec_type *type, const uint8_t *value,
                              unsigned depth)
{
    size_t sum = 0;
    size_t offset = 0;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct codec_type *field = type->fields[i];
        offset = codec_align(offset, field->alignment);
        sum = codec_add(sum, bound_of_value(variable, field, value + offset, depth + 1));
        offset += field->size;
    }
    return sum;
}

static size_t bound_of_value(bool variable, const struct codec_type *type, const uint8_t *value,
                             unsigned depth)
{
    if (depth >= CODEC_DEPTH_MAX) {
        return 0; /* encoding gets no further */
    }
    switch (type->kind) {
    case CODEC_U8:
    case CODEC_I8:
    case CODEC_BOOL:
        return 1;
    case CODEC_U16:
    case CODEC_U32:
    case CODEC_U64:
    case CODEC_I16:
    case CODEC_I32:
    case CODEC_I64:
        return type->size + variable;
    case CODEC_F32:
    case CODEC_F64:
        return type->size;
    case CODEC_BYTES:
    case CODEC_TEXT:
        return bound_of_elements(variable, &codec_u8_type, (const struct codec_vector *)value,
                                 depth);
    case CODEC_LIST:
        return bound_of_elements(variable, type->element, (const struct codec_vector *)value,
                                 depth + 1);
    case CODEC_OPTION:
        return *value == 0
                   ? 1
                   : codec_add(1, bound_of_value(variable, type->element,
                                                 value + codec_option_offset(type), depth + 1));
    case CODEC_TUPLE:
        return bound_of_fields(variable, type, value, depth);
    }
    return 0;
}

/* ---- the two versions ---- */

static enum codec_status encode(bool variable, const struct codec_type *type, const void *value,
                                uint8_t *buffer, size_t room, size_t *used)
{
    struct writer writer = {.next = buffer,
                            .end = buffer + room,
                            .empty_elements = CODEC_EMPTY_ELEMENTS_MAX,
                            .variable = variable};
    enum codec_status status = encode_value(&writer, type, value, 0);
    *used = (size_t)(writer.next - buffer);
    return status;
}

#define VERSION(version, variable)                                                                 \
    static size_t bound_##version(const struct codec_type *type, const void *value)                \
    {                                                                                              \
        return bound_of_value(variable, type, value, 0);                                           \
    }                                                                                              \
    static enum codec_status encode_##version(const struct codec_type *type, const void *value,    \
                                              uint8_t *buffer, size_t room, size_t *used)          \
    {                                                                                              \
        return encode(variable, type, value, buffer, room, used);                                  \
    }                                                                                              \
    static enum codec_status decode_##version(const struct codec_type *type, uint8_t *buffer,      \
                                              size_t length, struct codec_memory *memory,          \
                                              void *value, size_t *used)                           \
    {                                                                                              \
        return bincode_decode(variable, type, buffer, length, memory, value, used);                \
    }                                                                                              \
    const struct codec CODEC_SYMBOL(bincode_##version, CODEC_LEVEL) = {                            \
        CODEC_NAME("bincode-" #version, CODEC_LEVEL), bound_##version, encode_##version,           \
        decode_##version}

VERSION(v1, false);
VERSION(v2, true);
