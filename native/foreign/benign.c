/* Well-behaved foreign functions that the conformance suite and the examples call. */
#include "isolation.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int benign_echo(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int benign_reverse(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int benign_error(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int benign_count(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int benign_throw(const uint8_t *input, size_t input_length, struct iso_bytes *output);

/* The input, as it came. */
int benign_echo(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    if (input_length == 0) {
        return 0;
    }
    uint8_t *copy = malloc(input_length);
    if (copy == NULL) {
        return 1;
    }
    memcpy(copy, input, input_length);
    *output = (struct iso_bytes){copy, input_length};
    return 0;
}

/* The input, last byte first. */
int benign_reverse(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    int code = benign_echo(input, input_length, output);
    for (size_t i = 0; code == 0 && i < input_length; i++) {
        output->data[i] = input[input_length - 1 - i];
    }
    return code;
}

/* An error code: the input's first byte, or 1. */
int benign_error(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    (void)output;
    return input_length > 0 ? input[0] : 1;
}

/* How often it has been called since its library's data were last fresh, as 8 bytes. */
int benign_count(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    static uint64_t calls;
    (void)input;
    (void)input_length;
    calls++;
    return benign_echo((const uint8_t *)&calls, sizeof(calls), output);
}

/* From a deeper frame. */
static _Noreturn __attribute__((noinline)) void throw(jmp_buf catcher)
{
    volatile uint8_t frame[4096];
    frame[0] = 7;
    longjmp(catcher, frame[0]);
}

/* The input, as it came, by way of setjmp() and longjmp(). */
int benign_throw(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    jmp_buf catcher;
    int value = setjmp(catcher);
    if (value == 0) {
        throw(catcher);
    }
    return value == 7 ? benign_echo(input, input_length, output) : 1;
}
