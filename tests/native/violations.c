/* Every way that a foreign function goes wrong is told apart, and the next call is right. */
#include "sandbox.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ACCESS(access) ISO_ACCESS_##access
#else
#define ACCESS(access) ISO_ACCESS_UNKNOWN
#endif

/* The next call is right, and in a sandbox as fresh as the first. */
static void check_fresh(const struct box *box)
{
    CHECK_WORKS(box);
    CHECK_NUMBER(box, call(box, benign_count, NULL, 0), 1);
}

static void check_place(struct answer answer, uint64_t address, enum iso_access access)
{
    CHECK(answer.reply.fault.address_known);
    CHECK_EQUAL(answer.reply.fault.address, address);
    CHECK_EQUAL(answer.reply.fault.access, access);
}

static void check_no_place(struct answer answer)
{
    CHECK(!answer.reply.fault.address_known);
    CHECK_EQUAL(answer.reply.fault.access, ISO_ACCESS_UNKNOWN);
}

TEST(a_bad_access_is_a_signal_with_its_place)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct answer answer = call_number(&box, hostile_write, 0x1230);
        CHECK_SIGNAL(answer, SIGSEGV);
        check_place(answer, 0x1230, ACCESS(WRITE));
        CHECK(answer.reply.fault.instruction != 0);
        check_fresh(&box);

        answer = call_number(&box, hostile_read, 0x1238);
        CHECK_SIGNAL(answer, SIGSEGV);
        check_place(answer, 0x1238, ACCESS(READ));
        check_fresh(&box);

        answer = call_number(&box, hostile_jump, 0x1000);
        CHECK_SIGNAL(answer, SIGSEGV);
        check_place(answer, 0x1000, ACCESS(EXECUTE));
        CHECK_EQUAL(answer.reply.fault.instruction, 0x1000);
        check_fresh(&box);

        uint64_t code = (uintptr_t)foreign(benign_echo);
        answer = call_number(&box, hostile_write, code);
        CHECK_SIGNAL(answer, SIGSEGV);
        check_place(answer, code, ACCESS(WRITE));
        check_fresh(&box);
        close_box(&box);
    }
}

#if defined(__x86_64__)
TEST(an_address_that_is_not_canonical_is_not_told)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct answer answer = call_number(&box, hostile_write, UINT64_C(0x8000000000000000));
        CHECK_SIGNAL(answer, SIGSEGV);
        check_no_place(answer);
        check_fresh(&box);
        close_box(&box);
    }
}
#endif

static int touch_beyond_a_file(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    int fd = memfd_create("empty", MFD_CLOEXEC);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint64_t address = (uintptr_t)page;
    (void)input;
    (void)length;
    return foreign(hostile_write)((const uint8_t *)&address, sizeof(address), output);
}

TEST(memory_beyond_the_end_of_a_file_is_a_bus_error)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = touch_beyond_a_file};
        open_box(&box);
        struct answer answer = call(&box, own_function, NULL, 0);
        CHECK_SIGNAL(answer, SIGBUS);
        CHECK(answer.reply.fault.address_known);
        check_fresh(&box);
        close_box(&box);
    }
}

TEST(an_abort_is_a_signal_without_an_address)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct answer answer = call(&box, hostile_abort, NULL, 0);
        CHECK_SIGNAL(answer, SIGABRT);
        check_no_place(answer);
        check_fresh(&box);
        close_box(&box);
    }
}

TEST(an_illegal_instruction_is_a_signal_whose_address_is_no_accessed_one)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct answer answer = call(&box, hostile_illegal_instruction, NULL, 0);
#if defined(__x86_64__)
        CHECK_SIGNAL(answer, SIGILL);
#else
        CHECK_SIGNAL(answer, SIGTRAP); /* GCC traps with brk there */
#endif
        check_no_place(answer);
        CHECK(answer.reply.fault.instruction != 0);
        check_fresh(&box);
        close_box(&box);
    }
}

TEST(a_stack_overflow_is_a_signal_with_its_place)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        struct answer answer = call(&box, hostile_stack_overflow, NULL, 0);
        CHECK_SIGNAL(answer, SIGSEGV);
        CHECK(answer.reply.fault.address_known);
        check_fresh(&box);
        close_box(&box);
    }
}

static bool ends_a_process(int signal)
{
    switch (signal) {
    case SIGCHLD: /* ignored by default */
    case SIGCONT:
    case SIGURG:
    case SIGWINCH:
    case SIGINT:  /* the parent's to handle */
    case SIGSTOP: /* stop the process */
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
        return false;
    default:
        return signal != SIGRTMAX; /* the one that asks whether the parent lives */
    }
}

TEST(every_signal_that_ends_the_process_is_told)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (int signal = 1; signal <= SIGRTMAX; signal++) {
            if (ends_a_process(signal) && (signal < __SIGRTMIN || signal >= SIGRTMIN)) {
                struct answer answer = call_number(&box, hostile_raise, (uint64_t)signal);
                CHECK_SIGNAL(answer, signal);
                check_no_place(answer);
            }
        }
        check_fresh(&box);
        close_box(&box);
    }
}

TEST(a_signal_that_does_not_end_the_process_is_none)
{
    static const int harmless[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGINT};
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
            CHECK_OUTPUT(&box, call_number(&box, hostile_raise, (uint64_t)harmless[i]), NULL, 0);
        }
        CHECK_OUTPUT(&box, call_number(&box, hostile_raise, (uint64_t)SIGRTMAX), NULL, 0);
        close_box(&box);
    }
}

TEST(an_exit_is_told_with_its_status_also_if_that_is_0)
{
    static const int statuses[] = {0, 1, 3, 125, 126, 255};
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
            CHECK_EXIT(call_number(&box, hostile_exit, (uint64_t)statuses[i]), statuses[i]);
            check_fresh(&box);
        }
        close_box(&box);
    }
}

static bool *handlers_ran; /* shared with the child */

static void handler_of_the_callers_program(void)
{
    *handlers_ran = true;
}

static int call_exit(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    exit(7);
}

static int call_quick_exit(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    (void)input;
    (void)length;
    (void)output;
    quick_exit(7);
}

TEST(quick_exit_in_a_foreign_function_runs_no_handler_of_the_callers_program)
{
    handlers_ran = shared_memory(sizeof(*handlers_ran));
    CHECK(at_quick_exit(handler_of_the_callers_program) == 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = call_quick_exit};
        open_box(&box);
        CHECK_EXIT(call(&box, own_function, NULL, 0), 7);
        CHECK(!*handlers_ran);
        check_fresh(&box);
        close_box(&box);
    }
}

TEST(exit_in_a_foreign_function_runs_no_exit_handler_of_the_callers_program)
{
    handlers_ran = shared_memory(sizeof(*handlers_ran));
    CHECK(atexit(handler_of_the_callers_program) == 0);
    char path[] = "/tmp/isolation-test-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0);
    FILE *buffered = fdopen(dup(fd), "w");
    CHECK(buffered != NULL && fputs("once", buffered) >= 0);
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = call_exit};
        open_box(&box);
        CHECK_EXIT(call(&box, own_function, NULL, 0), 7);
        CHECK(!*handlers_ran);
        check_fresh(&box);
        close_box(&box);
    }
    fclose(buffered);
    CHECK_EQUAL(lseek(fd, 0, SEEK_END), 4);
    close(fd);
}

static int claim_output(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    CHECK_EQUAL(length, sizeof(*output));
    memcpy(output, input, sizeof(*output));
    return 0;
}

TEST(an_output_that_is_not_memory_is_an_exit_of_the_child)
{
    uint8_t *half = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(half != MAP_FAILED && munmap(half + (1 << 20), 1 << 20) == 0);
    const struct iso_bytes lies[] = {
        {NULL, 1},
        {(uint8_t *)(uintptr_t)0x1230, 100},
        {(uint8_t *)(uintptr_t)0x1230, 1 << 20},
        {half, 2 << 20}, /* half of it arrives */
        {half, SIZE_MAX},
        {half, (size_t)1 << 63},
        {half, ((size_t)1 << 63) | 24}, /* would be a death note on the wire */
    };
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = claim_output};
        open_box(&box);
        CHECK_EXIT(call(&box, hostile_null_output, NULL, 0), 126);
        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
            CHECK_EXIT(call(&box, own_function, &lies[i], sizeof(lies[i])), 126);
            check_fresh(&box);
        }
        close_box(&box);
    }
    munmap(half, 1 << 20);
}

static int give_memory_of_no_allocator(const uint8_t *input, size_t length,
                                       struct iso_bytes *output)
{
    static uint8_t bytes[64] = "abc";
    (void)input;
    (void)length;
    *output = (struct iso_bytes){bytes + 16, 3};
    return 0;
}

TEST(an_output_that_cannot_be_freed_is_a_violation_of_this_call_or_the_next)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = give_memory_of_no_allocator};
        open_box(&box);
        for (int i = 0; i < 20; i++) {
            struct answer answer = call(&box, own_function, NULL, 0);
            if (answer.status == ISO_OK) {
                CHECK_OUTPUT(&box, answer, "\0\0\0", 3);
                if (wall == &iso_fork) {
                    continue; /* its end is nobody's business any more */
                }
                answer = call(&box, benign_reverse, "abc", 3);
            }
            CHECK_EQUAL(answer.status, ISO_VIOLATION); /* which kind is up to the allocator */
            CHECK(answer.reply.fault.violation != ISO_VIOLATION_PROTOCOL);
            check_fresh(&box);
        }
        close_box(&box);
    }
}

TEST(a_child_that_closes_its_pipes_and_lives_on_violates_the_protocol)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall};
        open_box(&box);
        uint64_t begin = now_ms();
        CHECK_PROTOCOL(call(&box, hostile_close_descriptors, NULL, 0), "lived on");
        CHECK(now_ms() - begin < 2000);
        check_fresh(&box);
        close_box(&box);
    }
}

static void *write_to_0x1230(void *unused)
{
    uint64_t address = 0x1230;
    struct iso_bytes output = {0};
    (void)unused;
    foreign(hostile_write)((const uint8_t *)&address, sizeof(address), &output);
    return NULL;
}

static int crash_in_a_thread(const uint8_t *input, size_t length, struct iso_bytes *output)
{
    pthread_t thread;
    (void)input;
    (void)length;
    (void)output;
    if (pthread_create(&thread, NULL, write_to_0x1230, NULL) == 0) {
        pthread_join(thread, NULL);
    }
    return 0;
}

TEST(a_crash_in_another_thread_of_the_foreign_code_is_told_the_same_way)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .own = crash_in_a_thread};
        open_box(&box);
        struct answer answer = call(&box, own_function, NULL, 0);
        CHECK_SIGNAL(answer, SIGSEGV);
        check_place(answer, 0x1230, ACCESS(WRITE));
        check_fresh(&box);
        close_box(&box);
    }
}

TEST(without_respawn_a_violation_ends_the_sandbox_for_good)
{
    FOR_EACH_WALL(wall)
    {
        struct box box = {.mechanism = wall, .stays_dead = true};
        open_box(&box);
        CHECK_WORKS(&box);
        struct answer answer = call_number(&box, benign_error, 9);
        CHECK_EQUAL(answer.status, ISO_FOREIGN_ERROR); /* no violation */
        CHECK_WORKS(&box);
        CHECK_SIGNAL(call(&box, hostile_abort, NULL, 0), SIGABRT);
        for (int i = 0; i < 3; i++) {
            answer = call(&box, benign_reverse, "abc", 3);
            CHECK_EQUAL(answer.status, ISO_DEAD);
            CHECK(answer.reply.output.data == NULL && answer.reply.output.length == 0);
        }
        CHECK_EQUAL(wall->process(box.sandbox), 0);
        close_box(&box);
    }
}
