#include "inputs.h"

/*
 * PCG-XSH-RR 64/32 (O'Neill 2014, section 6.3.1) as the crate rand_pcg 0.3.1 starts it: the state
 * is added to the increment and stepped once before the first draw.
 */
struct pcg {
    uint64_t state;
    uint64_t increment;
};

static void pcg_step(struct pcg *pcg)
{
    pcg->state = pcg->state * UINT64_C(6364136223846793005) + pcg->increment;
}

static struct pcg pcg_start(void)
{
    struct pcg pcg = {.increment = (UINT64_C(5897932384) << 1) | 1};
    pcg.state = UINT64_C(3141592653) + pcg.increment;
    pcg_step(&pcg);
    return pcg;
}

static uint32_t pcg_draw(struct pcg *pcg)
{
    uint64_t state = pcg->state;
    pcg_step(pcg);
    uint32_t folded = (uint32_t)(((state >> 18) ^ state) >> 27);
    unsigned rotation = (unsigned)(state >> 59);
    return (folded >> rotation) | (folded << (-rotation & 31));
}

void iso_paper_draws(uint32_t *draws, size_t count)
{
    struct pcg pcg = pcg_start();
    for (size_t i = 0; i < count; i++) {
        draws[i] = pcg_draw(&pcg);
    }
}

void iso_paper_bytes(uint8_t *bytes, size_t length)
{
    /* Uniform in [0, 255) by widening multiplication with rejection (Lemire 2019), as in the crate
     * rand 0.8.5: `zone` is the largest low half that leaves every value equally likely. */
    const uint64_t range = 255;
    const uint32_t zone = UINT32_MAX - (uint32_t)((UINT64_C(1) << 32) - range) % (uint32_t)range;
    struct pcg pcg = pcg_start();
    for (size_t i = 0; i < length;) {
        uint64_t wide = pcg_draw(&pcg) * range;
        if ((uint32_t)wide <= zone) {
            bytes[i++] = (uint8_t)(wide >> 32);
        }
    }
}

void iso_paper_sizes(uint16_t *sizes, size_t count)
{
    /* As above from 64-bit draws, low word first. The range is a power of two, whose zone in that
     * crate is half of all draws: of the product with 4096, the low half's own upper bit is 0. */
    enum { RANGE_BITS = 12 };
    struct pcg pcg = pcg_start();
    for (size_t i = 0; i < count;) {
        uint64_t draw = pcg_draw(&pcg);
        draw |= (uint64_t)pcg_draw(&pcg) << 32;
        if ((draw << RANGE_BITS) >> 63 == 0) {
            sizes[i++] = (uint16_t)(draw >> (64 - RANGE_BITS));
        }
    }
}
