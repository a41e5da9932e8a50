/* Results that the caller reads where the domain has written them. */
#include "domains.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

enum { MANY = 1000, LENGTH = 300 };

static struct answer views[MANY];

static void fill(uint8_t *bytes, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)((seed + i) * 2654435761U >> 24);
    }
}

static void take_view(const struct box *box, int number)
{
    uint8_t input[LENGTH];
    fill(input, sizeof(input), (uint32_t)number);
    views[number] = call(box, benign_echo, input, sizeof(input));
    CHECK_EQUAL(views[number].status, ISO_OK);
    CHECK_EQUAL(views[number].reply.output.length, LENGTH);
}

static void check_view(int number)
{
    uint8_t wanted[LENGTH];
    fill(wanted, sizeof(wanted), (uint32_t)number);
    CHECK(memcmp(views[number].reply.output.data, wanted, LENGTH) == 0);
}

static void open_used(struct box *box)
{
    need_protection_keys();
    *box = (struct box){.mechanism = &iso_domain_view};
    open_box(box);
    CHECK_WORKS(box);
}

/* order[i] is released as the i-th; those that are left are right all the time. */
static void take_and_release(const struct box *box, const int *order)
{
    for (int i = 0; i < MANY; i++) {
        take_view(box, i);
    }
    for (int i = 0; i < MANY; i++) {
        check_view(order[i]);
        release(box, &views[order[i]]);
        if (i % 3 == 0) {
            CHECK_WORKS(box); /* which allocates what was freed */
        }
        if (i % 50 == 0) {
            for (int k = i + 1; k < MANY; k++) {
                check_view(order[k]);
            }
        }
    }
}

/* Freeing the first of two results is a violation, by what a call has done to its header: the
 * second went with the discard, and is not to be freed in the heap that comes after it. */
TEST(a_result_that_went_with_a_discard_is_not_freed_after_it)
{
    struct box box;
    open_used(&box);
    take_view(&box, 0);
    take_view(&box, 1);
    uintptr_t header = (uintptr_t)views[0].reply.output.data - 8;
    CHECK_EQUAL(call_number(&box, hostile_write, header + 3).status, ISO_OK);
    release(&box, &views[0]);
    release(&box, &views[1]);
    for (int i = 2; i < 6; i++) {
        take_view(&box, i);
    }
    for (int i = 2; i < 6; i++) {
        check_view(i);
        release(&box, &views[i]);
    }
    close_box(&box);
}

TEST(views_are_right_until_released_in_whatever_order)
{
    static int order[MANY];
    struct box box;
    open_used(&box);
    for (int i = 0; i < MANY; i++) {
        order[i] = i;
    }
    take_and_release(&box, order);
    for (int i = 0; i < MANY; i++) {
        order[i] = MANY - 1 - i;
    }
    take_and_release(&box, order);
    struct holdings before = take_stock();
    for (int round = 0; round < 3; round++) {
        for (int i = MANY - 1; i > 0; i--) {
            int other = rand() % (i + 1), one = order[i];
            order[i] = order[other];
            order[other] = one;
        }
        take_and_release(&box, order);
    }
    check_stock(&before, 64 << 10);
    close_box(&box);
}

TEST(views_of_before_a_violation_can_be_released_whenever)
{
    struct box box;
    open_used(&box);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < MANY; i++) {
            if (i % 100 == 50) {
                CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
            }
            take_view(&box, i);
        }
        /* The last fifty are fresh. Others go before, between and after them. */
        for (int i = 0; i < MANY; i++) {
            int number = round % 2 == 0 ? i : MANY - 1 - i;
            if (number >= MANY - 50) {
                check_view(number);
            }
            release(&box, &views[number]);
            CHECK_WORKS(&box);
        }
    }
    close_box(&box);
}

TEST(a_big_view_of_before_a_violation_can_still_be_read)
{
    struct box box;
    open_used(&box);
    enum { BIG = 4 << 20 };
    uint8_t *input = malloc(BIG);
    CHECK(input != NULL);
    fill(input, BIG, 1);
    struct answer answer = call(&box, benign_echo, input, BIG);
    CHECK_EQUAL(answer.status, ISO_OK);
    CHECK(memcmp(answer.reply.output.data, input, BIG) == 0);
    CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    /* What it holds now is the domain's business; that it can be read is the caller's. */
    unsigned sum = 0;
    for (size_t i = 0; i < BIG; i += 512) {
        sum += ((volatile uint8_t *)answer.reply.output.data)[i];
    }
    (void)sum;
    CHECK_WORKS(&box);
    release(&box, &answer);
    CHECK_WORKS(&box);
    struct answer next = call(&box, benign_echo, input, BIG);
    CHECK_OUTPUT(&box, next, input, BIG);
    free(input);
    close_box(&box);
}

static sigjmp_buf back;

static void jump_back(int number)
{
    siglongjmp(back, number);
}

/* A call that never returns: a handler of the program's leaves it. */
static void abandon_a_call(const struct box *box)
{
    struct sigaction action = {.sa_handler = jump_back};
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    if (sigsetjmp(back, 1) == 0) {
        CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        call(box, hostile_loop, NULL, 0);
        CHECK(false);
    }
}

TEST(views_of_before_a_call_that_was_left_are_as_those_of_before_a_violation)
{
    struct box box;
    open_used(&box);
    enum { BIG = 4 << 20 };
    uint8_t *input = calloc(1, BIG);
    CHECK(input != NULL);
    for (volatile int round = 0; round < 3; round++) {
        struct answer big = call(&box, benign_echo, input, BIG);
        CHECK_EQUAL(big.status, ISO_OK);
        for (int i = 0; i < 10; i++) {
            take_view(&box, i);
        }
        abandon_a_call(&box);
        for (int i = 10; i < 20; i++) {
            take_view(&box, i); /* the first discards */
        }
        for (size_t i = 0; i < BIG; i += 512) {
            CHECK(((volatile uint8_t *)big.reply.output.data)[i] <= UINT8_MAX); /* can be read */
        }
        release(&box, &big);
        for (int i = 0; i < 10; i++) {
            release(&box, &views[i]);
            CHECK_WORKS(&box); /* which allocates what was freed */
        }
        for (int i = 10; i < 20; i++) {
            check_view(i);
            release(&box, &views[i]);
        }
    }
    free(input);
    close_box(&box);
}

/* ---- who else uses views ---- */

static int ends[2];

static void *read_and_write_view(void *view)
{
    char bytes[4];
    const struct iso_bytes *output = view;
    CHECK(read(ends[0], bytes, 1) == 1); /* now there is one */
    CHECK(memcmp(output->data, "cba", 3) == 0);
    CHECK_EQUAL(write(ends[1], output->data, 3), 3);
    CHECK(read(ends[0], bytes, 3) == 3 && memcmp(bytes, "cba", 3) == 0);
    return NULL;
}

TEST(a_thread_from_before_the_first_domain_reads_a_view)
{
    need_protection_keys();
    struct iso_bytes output;
    pthread_t thread;
    CHECK(pipe(ends) == 0);
    CHECK(pthread_create(&thread, NULL, read_and_write_view, &output) == 0);
    struct box box;
    open_used(&box);
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    output = answer.reply.output;
    CHECK(write(ends[1], "", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    release(&box, &answer);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    close_box(&box);
}

static void *hand_to_the_kernel(void *view)
{
    char bytes[4];
    const struct iso_bytes *output = view;
    CHECK(read(ends[0], bytes, 1) == 1);
    CHECK(write(ends[1], output->data, 3) == -1 && errno == EFAULT); /* as isolation.h says */
    CHECK(((const volatile uint8_t *)output->data)[0] == 'c');
    CHECK_EQUAL(write(ends[1], output->data, 3), 3);
    CHECK(read(ends[0], bytes, 3) == 3 && memcmp(bytes, "cba", 3) == 0);
    return NULL;
}

TEST(a_thread_from_before_the_first_domain_reads_a_view_before_the_kernel_does)
{
    need_protection_keys();
    struct iso_bytes output;
    pthread_t thread;
    CHECK(pipe(ends) == 0);
    CHECK(pthread_create(&thread, NULL, hand_to_the_kernel, &output) == 0);
    struct box box;
    open_used(&box);
    struct answer answer = call(&box, benign_reverse, "abc", 3);
    output = answer.reply.output;
    CHECK(write(ends[1], "", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    release(&box, &answer);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    close_box(&box);
}

TEST(a_view_is_an_input_of_its_own_domain)
{
    struct box box;
    open_used(&box);
    struct answer first = call(&box, benign_reverse, "abc", 3);
    CHECK_EQUAL(first.status, ISO_OK);
    for (int i = 0; i < 100; i++) {
        struct answer next = call(&box, benign_reverse, first.reply.output.data, 3);
        CHECK_OUTPUT(&box, next, "abc", 3);
    }
    CHECK(memcmp(first.reply.output.data, "cba", 3) == 0);
    release(&box, &first);
    close_box(&box);
}

/* No domain can read another's memory, whoever hands it over. */
TEST(a_view_is_no_input_of_another_domain)
{
    struct box box, other;
    open_used(&box);
    open_used(&other);
    struct answer view = call(&box, benign_reverse, "abc", 3);
    struct answer answer = call(&other, benign_reverse, view.reply.output.data, 3);
    CHECK_EQUAL(answer.status, ISO_VIOLATION);
    CHECK(answer.reply.fault.protection_key_known && answer.reply.fault.protection_key > 0);
    CHECK_EQUAL(answer.reply.fault.access, ISO_ACCESS_READ);
    CHECK(memcmp(view.reply.output.data, "cba", 3) == 0);
    release(&box, &view);
    CHECK_WORKS(&box);
    CHECK_WORKS(&other);
    close_box(&other);
    close_box(&box);
}

/* ---- results that are none ---- */

TEST(a_result_that_is_no_block_is_a_violation_of_the_call_that_returned_it)
{
    need_protection_keys();
    for (int m = 0; m < 2; m++) {
        struct box box = {.mechanism = domains[m]};
        open_box(&box);
        for (uint64_t length = 0; length < 3; length++) {
            CHECK_PROTOCOL(call_number(&box, hostile_inner_output, length), "no block");
            CHECK_WORKS(&box);
        }
        close_box(&box);
    }
}

TEST(a_result_beyond_its_limit_is_a_violation)
{
    need_protection_keys();
    for (int m = 0; m < 2; m++) {
        struct box box = {.mechanism = domains[m], .max_output_length = 1000};
        open_box(&box);
        for (int i = 0; i < 3; i++) {
            CHECK_PROTOCOL(call_number(&box, hostile_long_output, 1001), "longer than allowed");
            struct answer answer = call_number(&box, hostile_long_output, 1000);
            CHECK_EQUAL(answer.reply.output.length, 1000);
            release(&box, &answer);
        }
        close_box(&box);
    }
}
