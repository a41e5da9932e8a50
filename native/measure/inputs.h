/* The inputs of the paper's artifact, byte for byte. Each buffer starts its generator afresh. */
#ifndef MEASURE_INPUTS_H
#define MEASURE_INPUTS_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
/* The generator's 32-bit draws, for content of our own. */
void iso_paper_draws(uint32_t *draws, size_t count);

/* Bytes uniform in [0, 255): 255 itself does not occur. */
void iso_paper_bytes(uint8_t *bytes, size_t length);

/* Sizes of blocks, uniform in [0, 4096). */
void iso_paper_sizes(uint16_t *sizes, size_t count);
#pragma GCC visibility pop

#endif
