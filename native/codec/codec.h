/*
 * Codecs: how values are laid out when they cross a wall by copying.
 *
 *   bincode-v1      little-endian; lengths are 8 bytes; elements one by one
 *   bincode-v2      the same with variable-length integers; byte strings are borrowed when decoded
 *   abomonation-v1  the memory of the value, then what its vectors point to; decoding turns the
 *                   pointers to the copies, in place; elements are visited one by one
 *   abomonation-v2  the same, and byte vectors are copied without a visit
 *
 * A value is a C object in memory, described by a type: integers, floats and bool as C has them; a
 * byte string, text or list is a struct codec_vector; an option is a bool followed by its value, a
 * tuple is a struct, both with C's alignment.
 *
 * The encoded form may come from hostile code: decoding checks all of it and believes none of it.
 * The code runs on both sides of a wall. It uses no memory but what it is handed, no thread-local
 * storage and no library but memcpy.
 *
 * Each codec is compiled at -O0, -O1, -O2 and -O3, for the paper's Figure 4.
 */
#ifndef CODEC_CODEC_H
#define CODEC_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum codec_kind {
    CODEC_U8,
    CODEC_U16,
    CODEC_U32,
    CODEC_U64,
    CODEC_I8,
    CODEC_I16,
    CODEC_I32,
    CODEC_I64,
    CODEC_F32,
    CODEC_F64,
    CODEC_BOOL,
    CODEC_BYTES,  /* struct codec_vector of uint8_t */
    CODEC_TEXT,   /* the same, UTF-8 */
    CODEC_LIST,   /* struct codec_vector of `element` */
    CODEC_OPTION, /* bool, then `element` at its alignment */
    CODEC_TUPLE,  /* `fields` in order, as a C struct; a structure is the same */
};

struct codec_type {
    enum codec_kind kind;
    size_t size;                      /* of a value in memory, in bytes, a multiple of alignment */
    size_t alignment;                 /* a power of two */
    const struct codec_type *element; /* of a list or an option */
    const struct codec_type *const *fields; /* of a tuple */
    size_t field_count;
};

extern const struct codec_type codec_bytes_type;
extern const struct codec_type codec_u8_type;

struct codec_vector {
    void *data;      /* anything when length is 0 */
    size_t capacity; /* elements */
    size_t length;   /* elements */
};

/* Where decoding gets memory for what it cannot borrow. allocate() returns NULL when there is none.
 * What it gave before an error is the caller's to give back. */
struct codec_memory {
    void *(*allocate)(struct codec_memory *memory, size_t size, size_t alignment);
};

enum codec_status {
    CODEC_OK = 0,
    CODEC_TRUNCATED = 1, /* the encoded form ends too early; or the buffer to encode to does */
    CODEC_MALFORMED = 2, /* a tag, a bool, a length or text that no encoder writes */
    CODEC_NO_MEMORY = 3,
    CODEC_TOO_DEEP = 4,   /* types nested deeper than CODEC_DEPTH_MAX */
    CODEC_MISALIGNED = 5, /* the buffer, for decoding in place */
};

enum {
    CODEC_DEPTH_MAX = 64,
    /* Elements without a size that a value has at most, in all its lists together. A list of them
     * costs nothing to claim, and whoever goes through it pays. */
    CODEC_EMPTY_ELEMENTS_MAX = 1 << 20,
};

struct codec {
    const char *name; /* "bincode-v1-O2" */

    /* Bytes that encoding takes at most; SIZE_MAX if that does not fit a size_t. */
    size_t (*bound)(const struct codec_type *type, const void *value);

    /* Encodes to a buffer with room for so many bytes. *used: bytes written. */
    enum codec_status (*encode)(const struct codec_type *type, const void *value, uint8_t *buffer,
                                size_t room, size_t *used);

    /* Decodes to *value, type->size bytes. What can be borrowed stays in the buffer, which some
     * codecs change in place: abomonation wants it aligned as the elements of the type's vectors
     * are, at most to 8 bytes. Bytes after the value's are left alone; *used: bytes read. After an
     * error *value and the buffer are of no use. */
    enum codec_status (*decode)(const struct codec_type *type, uint8_t *buffer, size_t length,
                                struct codec_memory *memory, void *value, size_t *used);
};

#pragma GCC visibility push(default)
/* By name, with the level ("-O2") or without, which is -O2. NULL: none of that name. */
const struct codec *codec_find(const char *name);
extern const struct codec *const codecs[]; /* all of them; NULL at the end */
#pragma GCC visibility pop

#endif
