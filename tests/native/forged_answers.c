/* A hostile child writes its answers itself. tests/backends tries what hypothesis makes up. */
#include "sandbox.h"

#include "../../native/process/wire.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT = 1000 }; /* bytes of output */

struct forgery {
    uint32_t code;
    uint32_t call;
    uint64_t length; /* as announced */
    const void *payload;
    size_t payload_length; /* as sent */
};

static const struct wire_note note = {
    .signal = SIGSEGV, .access = 1, .address_known = 1, .address = 0x1230, .instruction = 0x1000};

/* Lets a fresh sandbox's first call forge `forgery`, or less of it, and then do as hostile_forge
 * does. */
static struct answer forge_part(const struct box *box, char then, struct forgery forgery,
                                size_t length)
{
    uint8_t input[1 + WIRE_HEADER + 2 * LIMIT] = {(uint8_t)then};
    struct wire_header header = {forgery.code, forgery.call, forgery.length};
    memcpy(input + 1, &header, sizeof(header));
    if (forgery.payload_length != 0) {
        memcpy(input + 1 + sizeof(header), forgery.payload, forgery.payload_length);
    }
    return call_within(box, then == 'h' ? 50 * MS : 0, hostile_forge, input, 1 + length);
}

static struct answer forge(const struct box *box, char then, struct forgery forgery)
{
    return forge_part(box, then, forgery, WIRE_HEADER + forgery.payload_length);
}

/* Whatever the child does afterwards. */
static void check_malformed(struct forgery forgery, const char *what)
{
    FOR_EACH_WALL(wall)
    {
        for (const char *then = "rxh"; *then != '\0'; then++) {
            struct box box = {.mechanism = wall, .max_output_length = LIMIT};
            open_box(&box);
            CHECK_PROTOCOL(forge(&box, *then, forgery), what);
            CHECK_WORKS(&box);
            close_box(&box);
        }
    }
}

static const uint8_t zeroes[2 * LIMIT];

TEST(an_answer_to_another_call_is_a_violation)
{
    static const uint32_t calls[] = {0, 2, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        check_malformed((struct forgery){.call = calls[i]}, "another call");
        check_malformed((struct forgery){.call = calls[i], .length = UINT64_MAX >> 1},
                        "another call");
    }
}

TEST(an_answer_beyond_the_limit_is_a_violation)
{
    static const uint64_t too_long[] = {LIMIT + 1, UINT64_C(1) << 31, UINT64_C(1) << 32,
                                        UINT64_MAX >> 1};
    for (size_t i = 0; i < 4; i++) {
        check_malformed((struct forgery){.call = 1, .length = too_long[i]}, "limit");
        check_malformed((struct forgery){0, 1, too_long[i], zeroes, LIMIT + 1}, "limit");
    }
}

TEST(an_answer_with_more_than_it_announced_is_a_violation)
{
    check_malformed((struct forgery){0, 1, 0, zeroes, 1}, "longer than it said");
    check_malformed((struct forgery){0, 1, 10, zeroes, 11}, "longer than it said");
    check_malformed((struct forgery){0, 1, 10, zeroes, 2 * LIMIT}, "longer than it said");
}

TEST(an_error_code_with_output_is_a_violation)
{
    check_malformed((struct forgery){7, 1, 10, zeroes, 10}, "error code with output");
}

TEST(a_death_note_of_the_wrong_length_is_a_violation)
{
    const uint64_t flag = WIRE_NOTE;
    check_malformed((struct forgery){0, 1, flag, NULL, 0}, "wrong length");
    check_malformed((struct forgery){0, 1, flag | 23, &note, 23}, "wrong length");
    check_malformed((struct forgery){0, 1, flag | 24, &note, 23}, "wrong length");
    check_malformed((struct forgery){0, 1, flag | 24, zeroes, 25}, "wrong length");
    check_malformed((struct forgery){0, 1, UINT64_MAX, &note, 24}, "wrong length");
}

TEST(a_length_with_all_bits_is_bounded_where_outputs_have_no_limit)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK_PROTOCOL(forge(&box, 'h', (struct forgery){0, 1, UINT64_MAX, NULL, 0}),
                       "wrong length");
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_truncated_answer_is_an_exit_or_a_time_out)
{
    static const size_t parts[] = {0, 1, 15, 16, 17, 16 + LIMIT - 1};
    struct forgery whole = {0, 1, LIMIT, zeroes, LIMIT};
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .max_output_length = LIMIT};
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            open_box(&box);
            CHECK_EXIT(forge_part(&box, 'x', whole, parts[i]), 0);
            CHECK_WORKS(&box);
            close_box(&box);
            open_box(&box);
            CHECK_TIMEOUT(forge_part(&box, 'h', whole, parts[i]));
            CHECK_WORKS(&box);
            close_box(&box);
        }
    }
}

TEST(a_death_note_of_a_child_that_lives_on_is_a_violation)
{
    const uint64_t length = WIRE_NOTE | sizeof(note);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .max_output_length = LIMIT};
        open_box(&box);
        uint64_t begin = now_ms();
        struct answer answer = forge(&box, 'h', (struct forgery){0, 1, length, &note, 24});
        CHECK_PROTOCOL(answer, "lived on");
        CHECK(!answer.reply.fault.address_known);
        CHECK(now_ms() - begin < 2000);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_death_note_that_is_not_true_is_not_believed)
{
    const uint64_t length = WIRE_NOTE | sizeof(note);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .max_output_length = LIMIT};
        open_box(&box);
        struct answer answer = forge(&box, 'x', (struct forgery){0, 1, length, &note, 24});
        CHECK_EXIT(answer, 0);
        CHECK(!answer.reply.fault.address_known);
        CHECK_WORKS(&box);
        answer = forge(&box, 'x', (struct forgery){0, 77, length, &note, 24});
        CHECK_PROTOCOL(answer, "another call");
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_death_note_full_of_nonsense_is_harmless)
{
    uint8_t nonsense[sizeof(note)];
    memset(nonsense, 0xff, sizeof(nonsense));
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        CHECK_EXIT(forge(&box, 'x', (struct forgery){0, 1, WIRE_NOTE | 24, nonsense, 24}), 0);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

TEST(a_well_formed_forgery_is_the_answer_and_the_true_one_after_it_a_violation)
{
    struct forgery forgery = {0, 1, 3, "abc", 3};
    for (int i = 0; i < 20; i++) {
        struct box box = {.mechanism = &iso_pipe};
        open_box(&box);
        struct answer answer = forge(&box, 'r', forgery);
        if (answer.status == ISO_OK) {
            CHECK_OUTPUT(&box, answer, "abc", 3);
            CHECK_PROTOCOL(call(&box, benign_reverse, "abc", 3), "another call");
        } else {
            CHECK_PROTOCOL(answer, "longer than it said"); /* both came at once */
        }
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

static int answer_and_die(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)output;
    signal(SIGSEGV, SIG_DFL); /* the note is in the input */
    if (write(answer_pipe(), input, length) == (ssize_t)length) {
        raise(SIGSEGV);
    }
    return 1;
}

TEST(a_death_note_that_comes_with_an_answer_is_believed_if_it_is_true)
{
    struct {
        struct wire_header header;
        uint8_t output[16];
        struct wire_header note_header;
        struct wire_note note;
    } both = {{.call = 1, .length = 16}, "", {.call = 1, .length = WIRE_NOTE | 24}, note};
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = answer_and_die};
        open_box(&box);
        struct answer answer = call(&box, own_function, &both, sizeof(both));
        CHECK_SIGNAL(answer, SIGSEGV);
        CHECK_EQUAL(answer.reply.fault.address, 0x1230);
        CHECK_WORKS(&box);
        close_box(&box);
    }
    struct forgery lie = {0, 1, 16, both.output, sizeof(both) - sizeof(both.header)};
    check_malformed(lie, "longer than it said");
    lie.length = 15; /* a note one byte further on */
    check_malformed(lie, "longer than it said");
}

/* ---- speaking out of turn ---- */

static int answer_and_then(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)length;
    (void)output;
    struct wire_header header = {.call = 1};
    int fd = answer_pipe();
    if (write(fd, &header, sizeof(header)) != sizeof(header)) {
        return 1;
    }
    sleep_ms(100); /* the parent is sending its next request now, which nobody reads */
    if (*input == 's') {
        raise(SIGSEGV);
    }
    header.call = 2;
    ssize_t written = write(fd, &header, *input == 'a' ? sizeof(header) : 1);
    for (;;) {
        pause();
    }
    return (int)written;
}

static struct answer call_while_it_speaks(struct box *box, const char *what, uint64_t timeout_ns)
{
    enum { LARGE = 1 << 20 };
    uint8_t *large = calloc(LARGE, 1);
    CHECK(large != NULL);
    CHECK_OUTPUT(box, call(box, own_function, what, 1), NULL, 0);
    struct answer answer = call_within(box, timeout_ns, benign_echo, large, LARGE);
    free(large);
    return answer;
}

TEST(an_answer_before_the_request_is_read_is_a_violation)
{
    struct box box = {.mechanism = &iso_pipe, .own = answer_and_then};
    open_box(&box);
    CHECK_PROTOCOL(call_while_it_speaks(&box, "a", 0), "before the request was read");
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(half_an_answer_before_the_request_is_read_ends_in_time)
{
    struct box box = {.mechanism = &iso_pipe, .own = answer_and_then};
    open_box(&box);
    CHECK_TIMEOUT(call_while_it_speaks(&box, "h", 200 * MS));
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(a_death_before_the_request_is_read_is_told_by_its_signal)
{
    for (int i = 0; i < 10; i++) {
        struct box box = {.mechanism = &iso_pipe, .own = answer_and_then};
        open_box(&box);
        CHECK_SIGNAL(call_while_it_speaks(&box, "s", 0), SIGSEGV);
        CHECK_WORKS(&box);
        close_box(&box);
    }
}

/* ---- an answer that a note follows at once ---- */

/* The input: a size_t, of the output. */
static int answer_with_note(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    uint8_t frames[2 * WIRE_CHUNK] = {0};
    size_t size;
    (void)output;
    CHECK_EQUAL(length, sizeof(size));
    memcpy(&size, input, sizeof(size));
    struct wire_header answer = {.call = 1, .length = size};
    struct wire_header header = {.call = 1, .length = WIRE_NOTE | sizeof(note)};
    memcpy(frames, &answer, sizeof(answer));
    memcpy(frames + WIRE_HEADER + size, &header, sizeof(header));
    memcpy(frames + 2 * WIRE_HEADER + size, &note, sizeof(note));
    size_t all = 2 * WIRE_HEADER + size + sizeof(note);
    CHECK(write(answer_pipe(), frames, all) == (ssize_t)all);
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
    return 0;
}

TEST(a_note_is_whole_wherever_the_first_read_of_an_answer_ends)
{
    enum { FRAME = WIRE_HEADER + sizeof(note) };
    for (uint64_t limit = 0; limit <= 5000; limit += 5000) {
        for (size_t size = WIRE_CHUNK - WIRE_HEADER - FRAME - 1; size < WIRE_CHUNK - WIRE_HEADER;
             size++) {
            struct box box = {.mechanism = &iso_pipe, .own = answer_with_note};
            open_box(&box);
            struct answer answer = call_within(&box, limit * MS, own_function, &size, sizeof(size));
            CHECK_SIGNAL(answer, SIGSEGV);
            CHECK_EQUAL(answer.reply.fault.address, note.address);
            CHECK_EQUAL(answer.reply.fault.instruction, note.instruction);
            CHECK_WORKS(&box);
            close_box(&box);
        }
    }
}

/* Nor is one waited for that is none. */
static int answer_too_much(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    uint8_t frames[WIRE_CHUNK] = {0};
    (void)output;
    struct wire_header answer = {.call = 1, .length = sizeof(frames) - WIRE_HEADER - 1};
    memcpy(frames, &answer, sizeof(answer));
    CHECK(write(answer_pipe(), frames, sizeof(frames)) == (ssize_t)sizeof(frames));
    return foreign(hostile_loop)(input, length, output);
}

TEST(nothing_is_waited_for_behind_an_answer_that_fills_the_first_read)
{
    struct box box = {.mechanism = &iso_pipe, .own = answer_too_much};
    open_box(&box);
    alarm(20);
    CHECK_PROTOCOL(call(&box, own_function, NULL, 0), "longer than it said");
    alarm(0);
    CHECK_WORKS(&box);
    close_box(&box);
}
