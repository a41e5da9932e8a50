/* What is done thousands of times leaves nothing behind. */
#include "sandbox.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { TIMES = 10000 };
#if defined(__SANITIZE_ADDRESS__)
enum { MAY_GROW = 4 << 20 }; /* bytes; its allocator keeps what was freed for a while */
#else
enum { MAY_GROW = 256 << 10 };
#endif

static long resident_bytes(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*s %ld", &pages) == 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static void violate(const struct box *box, int times)
{
    for (int i = 0; i < times; i++) {
        switch (i % 8) {
        case 0:
            CHECK_EXIT(call_number(box, hostile_exit, 3), 3);
            break;
        case 1:
            CHECK_PROTOCOL(call(box, hostile_forge, "rgarbage that is no answer", 26), "");
            break;
        case 2:
            CHECK_TIMEOUT(call_within(box, MS / 5, hostile_loop, NULL, 0));
            break;
        case 3:
            CHECK_EXIT(call(box, hostile_null_output, NULL, 0), 126);
            break;
        case 4:
            CHECK_SIGNAL(call(box, hostile_abort, NULL, 0), SIGABRT);
            break;
        default:
            CHECK_SIGNAL(call_number(box, hostile_write, 0), SIGSEGV);
        }
    }
}

static void check_violations(const struct iso_mechanism *wall)
{
    struct box box = {.mechanism = wall};
    open_box(&box);
    violate(&box, 200);
    CHECK_WORKS(&box);
    int descriptors = open_descriptors();
    long memory = resident_bytes();
    violate(&box, TIMES);
    CHECK_WORKS(&box);
    CHECK_EQUAL(open_descriptors(), descriptors);
    long grown = resident_bytes() - memory;
    if (grown > MAY_GROW) {
        check_failed(__FILE__, __LINE__, "resident memory has grown by %ld bytes", grown);
    }
    close_box(&box);
    CHECK(has_no_children());
}

TEST(ten_thousand_violations_of_a_persistent_child_leave_nothing)
{
    check_violations(&iso_pipe);
}

TEST(ten_thousand_violations_of_children_of_one_call_leave_nothing)
{
    check_violations(&iso_fork);
}

static void open_call_close(int times)
{
    for (int i = 0; i < times; i++) {
        FOR_EACH_WALL(wall)
        {
            struct box box = {.mechanism = wall};
            open_box(&box);
            if (i % 4 == 0) {
                CHECK_WORKS(&box);
            }
            close_box(&box);
        }
    }
}

TEST(opening_and_closing_thousands_of_times_leaves_nothing)
{
    open_call_close(50);
    int descriptors = open_descriptors();
    long memory = resident_bytes();
    open_call_close(TIMES / 5);
    CHECK_EQUAL(open_descriptors(), descriptors);
    CHECK(resident_bytes() - memory <= MAY_GROW);
    CHECK(has_no_children());
}
