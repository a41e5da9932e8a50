/* A foreign library whose destructor calls what a pointer of its data says, and whose function
 * waits for the end of the process to change that pointer. */
#include "isolation.h"

#include <unistd.h>

enum { PAGE = 4096, TELL = 100 };

static void end_well(void)
{
    ssize_t told = write(TELL, "w", 1);
    (void)told;
}

static void end_badly(void)
{
    ssize_t told = write(TELL, "b", 1);
    (void)told;
}

static struct {
    volatile char written; /* its page is dirty while the process ends */
    char first_padding[2 * PAGE];
    void (*volatile end)(void); /* its is not */
    char last_padding[2 * PAGE];
} data __attribute__((aligned(PAGE))) = {.end = end_well};

int write_late(const uint8_t *input, size_t input_length, struct iso_bytes *output);
int write_late(const uint8_t *input, size_t input_length, struct iso_bytes *output)
{
    (void)input;
    (void)input_length;
    (void)output;
    data.written = 1;
    while (data.written == 1) {
    }
    data.end = end_badly;
    for (;;) {
    }
}

__attribute__((destructor)) static void end(void)
{
    data.end();
}
