/*
 * bincode as the crates 1.3 (fixed-width integers) and 2 (standard configuration) write it.
 *
 * https://github.com/bincode-org/bincode/blob/trunk/docs/spec.md
 *
 * A byte vector is a list whose elements are bytes: each is encoded by a call of its own, as by the
 * crates' visitors, and by version 1 decoded so. Text goes whole.
 *
 * Version 2 encodes an unsigned integer below 251 as one byte, others as a tag for u16, u32 or u64
 * and the integer, whichever is shortest; signed ones are zigzagged first. Decoding takes the
 * shortest form only, so that no two encoded forms are one value.
 */
#ifndef CODEC_BINCODE_H
#define CODEC_BINCODE_H

#include "level.h"

enum { TAG_U16 = 251, TAG_U32 = 252, TAG_U64 = 253 };

/* A name of its own at each level. */
#define bincode_decode CODEC_SYMBOL(bincode_decode, CODEC_LEVEL)

/* As struct codec's decode, of version 2 if `variable`. */
enum codec_status bincode_decode(bool variable, const struct codec_type *type, uint8_t *buffer,
                                 size_t length, struct codec_memory *memory, void *value,
                                 size_t *used);

#endif
