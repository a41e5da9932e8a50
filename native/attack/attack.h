/*
 * Attacks: foreign functions that harm their caller as well as they can. What each does is said in
 * harness/attacks/catalogue.py, which also says what it is to harm. An attack returns 0 when it has
 * done what it can, UNABLE when this machine refuses it whatever the wall.
 */
#ifndef ATTACK_ATTACK_H
#define ATTACK_ATTACK_H

#include "isolation.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CANARY_LENGTH = 64, UNABLE = 77 };

/* What an attack is told of its host: the input. As harness/attacks/host.py packs it. */
struct attack {
    uint64_t target;    /* address of the canary, CANARY_LENGTH bytes; or what catalogue.py says */
    uint64_t argument;  /* of the attack's own */
    int64_t host;       /* the process that called */
    int64_t descriptor; /* of the host's, on a file open for writing */
    int64_t mapped;     /* likewise, on a file that the host has mapped */
    uint64_t jump_buffer; /* a jmp_buf of the host's, of a function that waits for this one */
    char folder[256];     /* the host's */
};

static inline struct attack attack_of(const uint8_t *input, size_t input_length)
{
    struct attack attack = {0};
    memcpy(&attack, input, input_length < sizeof(attack) ? input_length : sizeof(attack));
    attack.folder[sizeof(attack.folder) - 1] = '\0';
    return attack;
}

static inline uint8_t *target_of(const struct attack *attack)
{
    return (uint8_t *)(uintptr_t)attack->target;
}

/* Overwrites a canary. */
static inline void mark(uint8_t *target)
{
    for (volatile uint8_t *byte = target; byte < target + CANARY_LENGTH; byte++) {
        *byte = 0x66;
    }
}

/* A block of its own, below the canary if there is such; or NULL. */
static inline uint8_t *block_below(const struct attack *attack, size_t size)
{
    enum { TRIES = 256 };
    uint8_t *block = NULL;
    for (int i = 0; i < TRIES && (block == NULL || block > target_of(attack)); i++) {
        block = malloc(size);
    }
    return block;
}

#define ATTACK(name)                                                                               \
    static int do_##name(const struct attack *attack, struct iso_bytes *output);                   \
    int attack_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output);        \
    int attack_##name(const uint8_t *input, size_t input_length, struct iso_bytes *output)         \
    {                                                                                              \
        struct attack attack = attack_of(input, input_length);                                     \
        return do_##name(&attack, output);                                                         \
    }                                                                                              \
    static int do_##name(const struct attack *attack __attribute__((unused)),                      \
                         struct iso_bytes *output __attribute__((unused)))

#endif
