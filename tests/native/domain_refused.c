/* Memory that the system refuses, or does not take back, while protection keys are in use. This
 * program has the runtime linked in, and the linker sends its calls through the functions below
 * (--wrap). */
#include "domains.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* ---- faults ---- */

static const char *refused; /* fails with ENOMEM */

static bool fails(const char *call)
{
    if (refused == NULL || strcmp(refused, call) != 0) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

#pragma GCC visibility push(default) /* the linker binds the sanitizers' libraries to them, too */
void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size)
{
    return fails("realloc") ? NULL : __real_realloc(block, size);
}

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return fails("mmap") ? MAP_FAILED : __real_mmap(address, length, protection, flags, fd, offset);
}

int __real_munmap(void *address, size_t length);
int __wrap_munmap(void *address, size_t length);
int __wrap_munmap(void *address, size_t length)
{
    return fails("munmap") ? -1 : __real_munmap(address, length);
}

#pragma GCC visibility pop

/* ---- views ---- */

enum { LENGTH = 300 };

static void open_views(struct box *box)
{
    need_protection_keys();
    *box = (struct box){.mechanism = &iso_domain_view};
    open_box(box);
    CHECK_WORKS(box);
}

static struct answer view_of(const struct box *box, int content)
{
    uint8_t input[LENGTH];
    memset(input, content, sizeof(input));
    return call(box, benign_echo, input, sizeof(input));
}

static void check_view(const struct answer *view, int content)
{
    uint8_t wanted[LENGTH];
    memset(wanted, content, sizeof(wanted));
    CHECK_EQUAL(view->status, ISO_OK);
    CHECK_EQUAL(view->reply.output.length, LENGTH);
    CHECK(memcmp(view->reply.output.data, wanted, LENGTH) == 0);
}

TEST(a_view_that_cannot_be_noted_is_an_error_and_its_block_is_freed)
{
    enum { MANY = 100 };
    struct box box;
    struct answer views[MANY];
    int count = 0;
    open_views(&box);
    refused = "realloc";
    while (count < MANY && (views[count] = view_of(&box, count)).status == ISO_OK) {
        count++;
    }
    CHECK(count > 0 && count < MANY); /* there was room for some */
    for (int i = 0; i < MANY; i++) {
        CHECK_REFUSED(view_of(&box, i), ENOMEM, "realloc");
    }
    refused = NULL;
    views[count] = view_of(&box, count);
    ptrdiff_t distance =
        views[count].reply.output.data - (const uint8_t *)views[count - 1].reply.output.data;
    CHECK(distance > 0 && distance < 8 * LENGTH); /* not behind all that were refused */
    for (int i = 0; i <= count; i++) {
        check_view(&views[i], i);
    }
    for (int i = 0; i <= count; i++) {
        release(&box, &views[i]);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

/* The heap is as new after a violation, so that the first result lies where the first one did. */
TEST(a_view_from_before_a_violation_is_not_taken_for_a_later_one_at_its_place)
{
    struct box box;
    open_views(&box);
    CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    struct answer before = view_of(&box, 1);
    refused = "realloc";
    CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
    refused = NULL;
    struct answer after = view_of(&box, 2);
    CHECK(after.reply.output.data == before.reply.output.data);
    release(&box, &before);
    for (int i = 0; i < 3; i++) {
        struct answer other = view_of(&box, 3);
        release(&box, &other);
    }
    check_view(&after, 2);
    release(&box, &after);
    CHECK_WORKS(&box);
    close_box(&box);
}

TEST(violations_need_no_memory_to_note_views_and_the_call_after_them_tells)
{
    enum { MANY = 40 };
    struct box box;
    struct answer views[MANY];
    int count = 0;
    open_views(&box);
    refused = "realloc";
    while (count < MANY && (views[count] = view_of(&box, count)).status == ISO_OK) {
        check_view(&views[count], count);
        CHECK_EQUAL(call(&box, hostile_abort, NULL, 0).status, ISO_VIOLATION);
        count++;
    }
    CHECK(count > 0 && count < MANY);
    for (int i = 0; i < 3; i++) {
        CHECK_REFUSED(view_of(&box, 0), ENOMEM, "realloc");
    }
    release(&box, &views[--count]); /* which makes room */
    CHECK_WORKS(&box);
    refused = NULL;
    while (count > 0) {
        release(&box, &views[--count]);
        CHECK_WORKS(&box);
    }
    close_box(&box);
}

/* ---- keys of memory that has stayed ---- */

TEST(the_key_of_a_domain_whose_memory_stays_is_given_to_nobody_before_it_has_gone)
{
    need_protection_keys();
    struct box box = {.mechanism = &iso_domain}, other = {.mechanism = &iso_domain};
    open_box(&other); /* what the first leaves for good is there */
    open_box(&box);
    CHECK_WORKS(&box);
    int free_keys = take_stock().keys;
    refused = "mmap";
    close_box(&box);
    refused = NULL;
    CHECK_EQUAL(take_stock().keys, free_keys);
    open_box(&box); /* which has it go first */
    CHECK_WORKS(&box);
    CHECK_EQUAL(take_stock().keys, free_keys);
    close_box(&box);
    CHECK_EQUAL(take_stock().keys, free_keys + 1);
    close_box(&other);
}

TEST(the_key_of_a_secret_that_stays_mapped_is_given_to_nobody)
{
    struct iso_fault fault;
    struct iso_data *secret;
    struct box box;
    open_views(&box);
    int free_keys = take_stock().keys;
    CHECK_EQUAL(iso_data_open(1, &secret, &fault), ISO_OK);
    int key = secret->key;
    refused = "munmap";
    iso_data_close(secret);
    refused = NULL;
    CHECK_EQUAL(take_stock().keys, free_keys - 1);
    CHECK_EQUAL(iso_data_open(1, &secret, &fault), ISO_OK);
    CHECK(secret->key != key);
    iso_data_close(secret);
    CHECK_EQUAL(take_stock().keys, free_keys - 1);
    close_box(&box);
}

TEST(the_key_of_a_trusted_heap_that_stays_mapped_is_given_to_nobody)
{
    need_protection_keys();
    struct iso_fault fault;
    struct iso_trusted *heap;
    int free_keys = take_stock().keys;
    CHECK_EQUAL(iso_trusted_open(1, &heap, &fault), ISO_OK);
    refused = "munmap";
    iso_trusted_close(heap);
    refused = NULL;
    CHECK_EQUAL(take_stock().keys, free_keys - 1);
    CHECK_EQUAL(iso_trusted_open(1, &heap, &fault), ISO_OK);
    CHECK(iso_trusted_write(heap, 0, "secret", 6));
    iso_trusted_close(heap);
    CHECK_EQUAL(take_stock().keys, free_keys - 1);
}
