/* Decoding. It believes nothing. */
#include "bincode.h"

#include <string.h>

struct reader {
    uint8_t *next;
    const uint8_t *end;
    size_t empty_elements; /* that may still come */
    bool variable;         /* version 2 */
    struct codec_memory *memory;
};

static size_t left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->next);
}

/* Called for each byte of a byte vector, as put_byte() is. */
__attribute__((noinline)) static enum codec_status take_byte(struct reader *reader, uint8_t *byte)
{
    if (reader->next == reader->end) {
        return CODEC_TRUNCATED;
    }
    *byte = *reader->next++;
    return CODEC_OK;
}

static enum codec_status take(struct reader *reader, void *bytes, size_t length)
{
    if (left(reader) < length) {
        return CODEC_TRUNCATED;
    }
    if (length > 0) {
        memcpy(bytes, reader->next, length);
    }
    reader->next += length;
    return CODEC_OK;
}

/* A bool, and the tag of an option. */
static enum codec_status take_bool(struct reader *reader, uint8_t *value)
{
    enum codec_status status = take_byte(reader, value);
    return status == CODEC_OK && *value > 1 ? CODEC_MALFORMED : status;
}

static enum codec_status take_unsigned(struct reader *reader, uint64_t *value, size_t size)
{
    *value = 0;
    if (!reader->variable) {
        return take(reader, value, size);
    }
    uint8_t tag = 0;
    enum codec_status status = take_byte(reader, &tag);
    if (status != CODEC_OK || tag < TAG_U16) {
        *value = tag;
        return status;
    }
    size_t length = tag == TAG_U16 ? 2 : tag == TAG_U32 ? 4 : 8;
    if (tag > TAG_U64 || length > size) {
        return CODEC_MALFORMED;
    }
    status = take(reader, value, length);
    uint64_t least = length == 2 ? TAG_U16 : length == 4 ? UINT16_MAX + 1ull : UINT32_MAX + 1ull;
    return status == CODEC_OK && *value < least ? CODEC_MALFORMED : status;
}

static enum codec_status take_signed(struct reader *reader, uint64_t *value, size_t size)
{
    enum codec_status status = take_unsigned(reader, value, size);
    if (reader->variable) {
        *value = *value >> 1 ^ -(*value & 1);
    }
    return status;
}

static enum codec_status decode_value(struct reader *reader, const struct codec_type *type,
                                      uint8_t *value, unsigned depth);

/* A vector's length, and memory for its elements if it has any. What is encoded takes a byte at
 * least, unless it has no size: so the length is checked against the bytes that are left before
 * memory is asked for. */
static enum codec_status take_vector(struct reader *reader, const struct codec_type *element,
                                     struct codec_vector *vector)
{
    uint64_t length = 0;
    enum codec_status status = take_unsigned(reader, &length, sizeof(uint64_t));
    *vector = (struct codec_vector){.data = NULL, .capacity = length, .length = length};
    if (status != CODEC_OK) {
        return status;
    }
    if (element->size == 0) {
        return codec_take_empty(&reader->empty_elements, length);
    }
    if (length > left(reader)) {
        return CODEC_TRUNCATED;
    }
    if (length == 0) {
        return CODEC_OK;
    }
    size_t size = codec_multiply(length, element->size);
    if (size > PTRDIFF_MAX) {
        return CODEC_NO_MEMORY;
    }
    vector->data = reader->memory->allocate(reader->memory, size, element->alignment);
    return vector->data != NULL ? CODEC_OK : CODEC_NO_MEMORY;
}

static enum codec_status decode_bytes(struct reader *reader, struct codec_vector *vector)
{
    enum codec_status status = take_vector(reader, &codec_u8_type, vector);
    uint8_t *next = vector->data;
    for (size_t i = 0; status == CODEC_OK && i < vector->length; i++) {
        status = take_byte(reader, next++);
    }
    return status;
}

static enum codec_status decode_elements(struct reader *reader, const struct codec_type *element,
                                         struct codec_vector *vector, unsigned depth)
{
    enum codec_status status = take_vector(reader, element, vector);
    if (element->size == 0) {
        return status;
    }
    uint8_t *next = vector->data;
    for (size_t i = 0; status == CODEC_OK && i < vector->length; i++) {
        status = decode_value(reader, element, next, depth);
        next += element->size;
    }
    return status;
}

/* Bytes that stay where they are in the encoded form. */
static enum codec_status borrow(struct reader *reader, struct codec_vector *vector)
{
    uint64_t length = 0;
    enum codec_status status = take_unsigned(reader, &length, sizeof(uint64_t));
    if (status != CODEC_OK) {
        return status;
    }
    if (length > left(reader)) {
        return CODEC_TRUNCATED;
    }
    *vector = (struct codec_vector){
        .data = length > 0 ? reader->next : NULL, .capacity = length, .length = length};
    reader->next += length;
    return CODEC_OK;
}

static enum codec_status decode_text(struct reader *reader, struct codec_vector *vector)
{
    enum codec_status status = borrow(reader, vector);
    if (status != CODEC_OK || vector->length == 0) {
        return status;
    }
    if (!reader->variable) {
        void *copy = reader->memory->allocate(reader->memory, vector->length, 1);
        if (copy == NULL) {
            return CODEC_NO_MEMORY;
        }
        vector->data = memcpy(copy, vector->data, vector->length);
    }
    return codec_is_utf8(vector->data, vector->length) ? CODEC_OK : CODEC_MALFORMED;
}

static enum codec_status decode_option(struct reader *reader, const struct codec_type *type,
                                       uint8_t *value, unsigned depth)
{
    enum codec_status status = take_bool(reader, value);
    if (status != CODEC_OK || *value == 0) {
        return status;
    }
    return decode_value(reader, type->element, value + codec_option_offset(type), depth + 1);
}

static enum codec_status decode_fields(struct reader *reader, const struct codec_type *type,
                                       uint8_t *value, unsigned depth)
{
    size_t offset = 0;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct codec_type *field = type->fields[i];
        offset = codec_align(offset, field->alignment);
        enum codec_status status = decode_value(reader, field, value + offset, depth + 1);
        if (status != CODEC_OK) {
            return status;
        }
        offset += field->size;
    }
    return CODEC_OK;
}

/* What fits the encoded width fits the C type: narrowing loses sign bits only. */
static enum codec_status decode_integer(struct reader *reader, const struct codec_type *type,
                                        uint8_t *value)
{
    bool is_signed = type->kind >= CODEC_I16;
    uint64_t integer = 0;
    enum codec_status status = is_signed ? take_signed(reader, &integer, type->size)
                                         : take_unsigned(reader, &integer, type->size);
    memcpy(value, &integer, type->size);
    return status;
}

static enum codec_status decode_value(struct reader *reader, const struct codec_type *type,
                                      uint8_t *value, unsigned depth)
{
    if (depth >= CODEC_DEPTH_MAX) {
        return CODEC_TOO_DEEP;
    }
    switch (type->kind) {
    case CODEC_U8:
    case CODEC_I8:
        return take_byte(reader, value);
    case CODEC_U16:
    case CODEC_U32:
    case CODEC_U64:
    case CODEC_I16:
    case CODEC_I32:
    case CODEC_I64:
        return decode_integer(reader, type, value);
    case CODEC_F32:
    case CODEC_F64:
        return take(reader, value, type->size);
    case CODEC_BOOL:
        return take_bool(reader, value);
    case CODEC_BYTES:
        return reader->variable ? borrow(reader, (struct codec_vector *)value)
                                : decode_bytes(reader, (struct codec_vector *)value);
    case CODEC_TEXT:
        return decode_text(reader, (struct codec_vector *)value);
    case CODEC_LIST:
        return decode_elements(reader, type->element, (struct codec_vector *)value, depth + 1);
    case CODEC_OPTION:
        return decode_option(reader, type, value, depth);
    case CODEC_TUPLE:
        return decode_fields(reader, type, value, depth);
    }
    return CODEC_MALFORMED;
}

enum codec_status bincode_decode(bool variable, const struct codec_type *type, uint8_t *buffer,
                                 size_t length, struct codec_memory *memory, void *value,
                                 size_t *used)
{
    struct reader reader = {.next = buffer,
                            .end = buffer + length,
                            .empty_elements = CODEC_EMPTY_ELEMENTS_MAX,
                            .variable = variable,
                            .memory = memory};
    enum codec_status status = decode_value(&reader, type, value, 0);
    *used = (size_t)(reader.next - buffer);
    return status;
}
