/* The system calls of PKRU-Safe's trusted heap and gates fail, each of them (sweep.h). */
#include "domains.h"
#include "sweep.h"

static void live(void)
{
    struct box box = {.mechanism = &iso_pkru_safe};
    struct iso_trusted *heap;
    struct answer answer = {0};
    begin_step(DATA);
    ATTEMPT(answer, ((answer.status = iso_trusted_open(5000, &heap, &answer.reply.fault)), answer),
            answer.status == ISO_OK);
    CHECK(iso_trusted_write(heap, 0, "abc", 3));
    open_step(&box);
    call_step(&box, CALL, 0, "abc", 3);
    error_step(&box);
    close_step(&box);
    begin_step(CLOSING);
    iso_trusted_close(heap);
}

TEST(whatever_fails_once_under_a_trusted_heap_is_an_error_once)
{
    need_protection_keys();
    /* Who cannot unmap a heap, or take the gates' page from under its key, keeps the key. */
    static const char *const keeps[] = {"munmap", "syscall(SYS_pkey_mprotect)",
                                        "syscall(SYS_pkey_free)", NULL};
    sweep(&(struct sweep){.wall = "pkru-safe", .life = live, .keeps = keeps});
}
