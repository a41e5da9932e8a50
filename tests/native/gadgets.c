/* The search for instructions that change PKRU, in memory. Needs no protection keys. */
#include "check.h"

#include "../../native/domain/gadgets.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE_SIZE = 4096 };

/* A page that nothing can be read behind. */
static uint8_t *page_before_a_gap(void)
{
    uint8_t *pages =
        mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(mprotect(pages + PAGE_SIZE, PAGE_SIZE, PROT_NONE) == 0);
    return pages;
}

static const struct form {
    const char *instruction;
    size_t length;
    uint8_t code[4];
} forms[] = {
    {"WRPKRU", 3, {0x0f, 0x01, 0xef}},       {"WRPKRU", 4, {0xd5, 0x80, 0x01, 0xef}},
    {"WRPKRU", 4, {0xd5, 0xff, 0x01, 0xef}}, {"XRSTOR", 3, {0x0f, 0xae, 0x28}},
    {"XRSTOR", 3, {0x0f, 0xae, 0x6c}},       {"XRSTOR", 3, {0x0f, 0xae, 0xaf}},
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

TEST(each_is_found_wherever_it_lies)
{
    uint8_t *page = page_before_a_gap();
    /* What surrounds it could begin one, too. */
    static const uint8_t surroundings[] = {0x00, 0x0f, 0x01, 0xae, 0xd5, 0x90};
    for (size_t s = 0; s < sizeof(surroundings); s++) {
        for (size_t f = 0; f < FORMS; f++) {
            for (size_t at = 0; at + forms[f].length <= PAGE_SIZE; at += at == 64 ? 3900 : 1) {
                struct gadget found;
                memset(page, surroundings[s], PAGE_SIZE);
                CHECK(!gadget_find(page, page + PAGE_SIZE, &found));
                memcpy(page + at, forms[f].code, forms[f].length);
                CHECK(gadget_find(page, page + PAGE_SIZE, &found));
                CHECK(found.place == page + at);
                CHECK(strcmp(found.instruction, forms[f].instruction) == 0);
            }
        }
    }
    CHECK(munmap(page, 2 * PAGE_SIZE) == 0);
}

TEST(what_the_end_cuts_off_is_not_one_and_nothing_is_read_behind_it)
{
    uint8_t *page = page_before_a_gap();
    struct gadget found;
    for (size_t f = 0; f < FORMS; f++) {
        for (size_t kept = 0; kept < forms[f].length; kept++) {
            memset(page, 0, PAGE_SIZE);
            memcpy(page + PAGE_SIZE - kept, forms[f].code, kept);
            CHECK(!gadget_find(page, page + PAGE_SIZE, &found));
            CHECK(!gadget_find(page + PAGE_SIZE - kept, page + PAGE_SIZE, &found));
        }
    }
    CHECK(munmap(page, 2 * PAGE_SIZE) == 0);
}

TEST(of_all_three_bytes_those_and_no_others)
{
    struct gadget found;
    for (uint32_t number = 0; number < 1U << 24; number++) {
        const uint8_t code[3] = {(uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
        /* XRSTOR: by the bits of ModRM, mod not 3 and reg 5 */
        bool is_one = (number == 0x0f01ef) || ((number & 0xffff38) == 0x0fae28 && code[2] < 0xc0);
        if (gadget_find(code, code + sizeof(code), &found) != is_one) {
            check_failed(__FILE__, __LINE__, "%06x", number);
        }
    }
}
