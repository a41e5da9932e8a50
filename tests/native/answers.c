/* What comes back from a call that goes well, or that the function itself reports as failed. */
#include "sandbox.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const struct iso_mechanism *const mechanisms[] = {&iso_direct, &iso_pipe, &iso_fork};
#define FOR_EACH_MECHANISM(index) for (size_t index = 0; index < 3; index++)

/* Around the chunk that answers are first read in (4096, with and without its 16-byte header),
 * around what a pipe holds (65536, likewise), and beyond both. */
static const size_t lengths[] = {0,     1,     2,     15,    16,    17,    4079,    4080,
                                 4081,  4095,  4096,  4097,  8192,  65519, 65520,   65521,
                                 65535, 65536, 65537, 65551, 65552, 65553, 1 << 20, 16 << 20};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]), LONGEST = 16 << 20 };

static uint8_t *pattern(void)
{
    uint8_t *bytes = malloc(LONGEST);
    CHECK(bytes != NULL);
    uint32_t state = 1;
    for (size_t i = 0; i < LONGEST; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(state >> 24);
    }
    return bytes;
}

TEST(an_echo_of_any_length_is_what_was_sent)
{
    uint8_t *bytes = pattern();
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m]};
        open_box(&box);
        for (size_t i = 0; i < LENGTHS; i++) {
            CHECK_OUTPUT(&box, call(&box, benign_echo, bytes, lengths[i]), bytes, lengths[i]);
        }
        for (size_t i = LENGTHS; i-- > 0;) { /* the child's buffer has grown by now */
            CHECK_OUTPUT(&box, call(&box, benign_echo, bytes, lengths[i]), bytes, lengths[i]);
        }
        close_box(&box);
    }
    free(bytes);
}

TEST(a_reversal_of_any_length_is_right_with_a_time_limit_too)
{
    uint8_t *bytes = pattern();
    uint8_t *reversed = malloc(LONGEST);
    CHECK(reversed != NULL);
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m]};
        open_box(&box);
        for (size_t i = 0; i < LENGTHS; i++) {
            for (size_t k = 0; k < lengths[i]; k++) {
                reversed[k] = bytes[lengths[i] - 1 - k];
            }
            struct answer answer = call_within(&box, 60000 * MS, benign_reverse, bytes, lengths[i]);
            CHECK_OUTPUT(&box, answer, reversed, lengths[i]);
        }
        close_box(&box);
    }
    free(reversed);
    free(bytes);
}

TEST(a_long_output_for_a_short_input_arrives_whole)
{
    uint8_t *zeroes = calloc(LONGEST, 1);
    CHECK(zeroes != NULL);
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m]};
        open_box(&box);
        for (size_t i = 1; i < LENGTHS; i++) {
            CHECK_OUTPUT(&box, call_number(&box, hostile_long_output, lengths[i]), zeroes,
                         lengths[i]);
        }
        close_box(&box);
    }
    free(zeroes);
}

TEST(an_output_up_to_the_limit_is_right_and_one_byte_more_is_a_violation)
{
    static const size_t limits[] = {1, 4079, 4080, 4081, 65536, 100000};
    uint8_t *zeroes = calloc(100000, 1);
    CHECK(zeroes != NULL);
    FOR_EACH_WALL(wall)
    {
        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
            struct box box = {.mechanism = wall, .max_output_length = limits[i]};
            open_box(&box);
            CHECK_OUTPUT(&box, call_number(&box, hostile_long_output, limits[i]), zeroes,
                         limits[i]);
            CHECK_PROTOCOL(call_number(&box, hostile_long_output, limits[i] + 1),
                           "longer than the limit");
            CHECK_OUTPUT(&box, call_number(&box, hostile_long_output, 1), zeroes, 1);
            close_box(&box);
        }
    }
    free(zeroes);
}

static int give_number(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    int code = 0;
    (void)output;
    memcpy(&code, input, length < sizeof(code) ? length : sizeof(code));
    return code;
}

TEST(an_error_code_is_what_the_function_returned)
{
    static const int codes[] = {1, 2, 255, 256, 65536, -1, INT_MAX, INT_MIN};
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m], .own = give_number};
        open_box(&box);
        for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
            struct answer answer = call(&box, own_function, &codes[i], sizeof(codes[i]));
            CHECK_EQUAL(answer.status, ISO_FOREIGN_ERROR);
            CHECK_EQUAL(answer.reply.foreign_code, codes[i]);
            CHECK(answer.reply.output.data == NULL && answer.reply.output.length == 0);
        }
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static int fail_with_output(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    *output = (struct iso_bytes){malloc(100), 100};
    return 5;
}

TEST(output_beside_an_error_code_is_dropped)
{
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m], .own = fail_with_output};
        open_box(&box);
        struct answer answer = call(&box, own_function, NULL, 0);
        CHECK_EQUAL(answer.status, ISO_FOREIGN_ERROR);
        CHECK_EQUAL(answer.reply.foreign_code, 5);
        CHECK(answer.reply.output.data == NULL && answer.reply.output.length == 0);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static int give_no_bytes_in_memory(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    *output = (struct iso_bytes){malloc(1), 0};
    return 0;
}

TEST(an_output_of_no_bytes_may_have_memory)
{
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m], .own = give_no_bytes_in_memory};
        open_box(&box);
        CHECK_OUTPUT(&box, call(&box, own_function, NULL, 0), NULL, 0);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(an_index_beyond_the_table_is_refused)
{
    FOR_EACH_MECHANISM(m)
    {
        struct box box = {.mechanism = mechanisms[m]};
        open_box(&box);
        static const size_t indices[] = {own_function, own_function + 1, UINT32_MAX, SIZE_MAX};
        for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
            struct iso_request request = {.function = indices[i]};
            struct iso_reply reply;
            CHECK_EQUAL(box.mechanism->call(box.sandbox, &request, &reply), ISO_BAD_ARGUMENT);
            CHECK(reply.output.data == NULL && reply.output.length == 0);
        }
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_sandbox_without_functions_opens_and_closes)
{
    FOR_EACH_MECHANISM(m)
    {
        struct iso_options options = {.sandbox_cpu = -1};
        struct iso_sandbox *sandbox;
        struct iso_fault fault;
        CHECK_EQUAL(mechanisms[m]->open(&options, &sandbox, &fault), ISO_OK);
        struct iso_request request = {.function = 0};
        struct iso_reply reply;
        CHECK_EQUAL(mechanisms[m]->call(sandbox, &request, &reply), ISO_BAD_ARGUMENT);
        mechanisms[m]->close(sandbox);
    }
}

TEST(a_persistent_child_keeps_its_state_and_a_child_of_one_call_has_none)
{
    struct box persistent = {.mechanism = &iso_pipe};
    struct box of_one_call = {.mechanism = &iso_fork};
    open_box(&persistent);
    open_box(&of_one_call);
    for (uint64_t calls = 1; calls <= 10; calls++) {
        CHECK_NUMBER(&persistent, call(&persistent, benign_count, NULL, 0), calls);
        CHECK_NUMBER(&of_one_call, call(&of_one_call, benign_count, NULL, 0), 1);
    }
    close_box(&of_one_call);
    close_box(&persistent);
}

static int check_alignment(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)length;
    (void)output;
    return (int)((uintptr_t)input % 16);
}

TEST(the_input_lies_aligned_as_malloc_would_have_it)
{
    struct box box = {.mechanism = &iso_pipe, .own = check_alignment};
    open_box(&box);
    uint8_t *bytes = pattern();
    for (size_t i = 1; i < LENGTHS; i++) {
        CHECK_OUTPUT(&box, call(&box, own_function, bytes + 1, lengths[i] - 1), NULL, 0);
    }
    free(bytes);
    close_box(&box);
}

TEST(only_a_persistent_child_is_there_between_calls)
{
    struct box persistent = {.mechanism = &iso_pipe};
    struct box of_one_call = {.mechanism = &iso_fork};
    open_box(&persistent);
    open_box(&of_one_call);
    CHECK(iso_pipe.process(persistent.sandbox) > 0);
    CHECK_EQUAL(iso_fork.process(of_one_call.sandbox), 0);
    CHECK(iso_direct.process == NULL);
    close_box(&of_one_call);
    close_box(&persistent);
}
