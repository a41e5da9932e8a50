/*
 * Arguments and results that cross a domain's wall by copying, laid out by a codec, as SDRaD-FFI
 * does it: the process encodes the input to the domain's memory; inside, it is decoded, the
 * function runs, and its result is encoded to the domain's heap; the process decodes that.
 *
 * What is empty is as no argument and no result: it takes no codec.
 *
 * For all that the process knows, the encoded result is hostile. Nobody runs in the domain while it
 * is decoded.
 */
#ifndef DOMAIN_SERIALISED_H
#define DOMAIN_SERIALISED_H

#include "domain.h"
#include "isolation.h"

#include "../codec/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Encodes a call's input. NULL: *fault says why. */
uint8_t *serialise_input(struct domain *domain, const struct codec *codec,
                         const struct iso_request *request, size_t *length,
                         struct iso_fault *fault);

/* Runs inside: frees core->retired; decodes the arguments by core->codec, calls the function, and
 * leaves its result, encoded, in *output. */
int domain_invoke_serialised(uint8_t *arguments, size_t length, struct iso_bytes *output,
                             iso_function *function);

/* Decodes such a result, which lies in the domain's heap, to memory from malloc(). CODEC_OK,
 * CODEC_NO_MEMORY, or what is wrong with it. */
enum codec_status deserialise_output(const struct codec *codec, uint8_t *encoded, size_t length,
                                     struct iso_bytes *output);

#endif
