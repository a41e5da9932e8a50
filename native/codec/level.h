/* What the codecs have in common. It is compiled with each of them, once a level. */
#ifndef CODEC_LEVEL_H
#define CODEC_LEVEL_H

#include "codec.h"

#ifndef CODEC_LEVEL
#error "CODEC_LEVEL is the digit of the level that this is compiled at"
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied as they lie");
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "lengths have 64 bits");

/* CODEC_SYMBOL(bincode_v1, 2) is codec_bincode_v1_O2. The second step lets a macro be the level. */
#define CODEC_SYMBOL(codec, level) CODEC_JOIN(codec, level)
#define CODEC_JOIN(codec, level) codec_##codec##_O##level
#define CODEC_NAME(codec, level) CODEC_QUOTE(codec, level)
#define CODEC_QUOTE(codec, level) codec "-O" #level

/* The first multiple of an alignment that is not below an offset. Offsets in a type's memory: they
 * are far from the end of size_t. */
static inline size_t codec_align(size_t offset, size_t alignment)
{
    return (offset + alignment - 1) & ~(alignment - 1);
}

/* Where an option has its value: after its bool, aligned. */
static inline size_t codec_option_offset(const struct codec_type *option)
{
    return option->element->alignment;
}

/* Sums and products that stay at SIZE_MAX. */
static inline size_t codec_add(size_t a, size_t b)
{
    size_t sum;
    return __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}

static inline size_t codec_multiply(size_t a, size_t b)
{
    size_t product;
    return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}

/* Takes a list of elements without a size from those that a value may still have. */
static inline enum codec_status codec_take_empty(size_t *left, size_t length)
{
    if (length > *left) {
        return CODEC_MALFORMED;
    }
    *left -= length;
    return CODEC_OK;
}

/* Whether the text is UTF-8 as the Unicode Standard has it (table 3-7): the shortest form, no
 * surrogates, nothing above U+10FFFF. */
bool codec_is_utf8(const uint8_t *text, size_t length);

#endif
