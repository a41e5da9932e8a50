/* A ring of the kernel's, io_uring: what is asked of it needs no system call of its own, and is
 * done by a thread of the kernel's, under whatever rights that has. */
#include "attack.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <unistd.h>

enum { PAGE = 4096 };

struct ring {
    int descriptor;
    uint8_t *queue;
    struct io_uring_params parameters;
    struct io_uring_sqe *entry;
};

static uint8_t *map_of(const struct ring *ring, size_t length, long offset)
{
    void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring->descriptor, offset);
    return map != MAP_FAILED && make_own(map, length) ? map : NULL;
}

/* With room for one entry. False: this machine has none. */
static bool open_ring(struct ring *ring)
{
    *ring = (struct ring){0};
    ring->descriptor = (int)kernel_call(SYS_io_uring_setup, 1, &ring->parameters);
    if (ring->descriptor < 0) {
        return false;
    }
    size_t length = (ring->parameters.sq_off.array + sizeof(uint32_t) + PAGE - 1) / PAGE * PAGE;
    ring->queue = map_of(ring, length, IORING_OFF_SQ_RING);
    ring->entry = (void *)map_of(ring, PAGE, IORING_OFF_SQES);
    return ring->queue != NULL && ring->entry != NULL;
}

/* Has one entry done and waits for it. False: the kernel did not take it. */
static bool have_done(struct ring *ring, struct io_uring_sqe wanted)
{
    *ring->entry = wanted;
    *(uint32_t *)(void *)(ring->queue + ring->parameters.sq_off.array) = 0;
    uint32_t *tail = (uint32_t *)(void *)(ring->queue + ring->parameters.sq_off.tail);
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    return kernel_call(SYS_io_uring_enter, ring->descriptor, 1, 1, IORING_ENTER_GETEVENTS) == 1;
}

ATTACK(io_uring) /* a write to the host's file */
{
    struct ring ring;
    uint8_t marks[CANARY_LENGTH];
    memset(marks, 0x66, sizeof(marks));
    bool written =
        open_ring(&ring) && have_done(&ring, (struct io_uring_sqe){.opcode = IORING_OP_WRITE,
                                                                   .fd = (int)attack->descriptor,
                                                                   .addr = (uintptr_t)marks,
                                                                   .len = sizeof(marks),
                                                                   .off = (uint64_t)-1});
    kernel_call(SYS_close, ring.descriptor);
    return written ? 0 : UNABLE;
}

/* Passes CANARY_LENGTH bytes from one address to another: by a pipe, of which the kernel's thread
 * does the half that concerns the host's memory. */
static int pass(const struct attack *attack, bool to_host, uint8_t *own)
{
    struct ring ring;
    int *ends = malloc(2 * sizeof(*ends));
    if (ends == NULL || kernel_call(SYS_pipe2, ends, O_NONBLOCK) != 0) {
        return UNABLE;
    }
    if (!open_ring(&ring)) {
        kernel_call(SYS_close, ring.descriptor);
        kernel_call(SYS_close, ends[0]);
        kernel_call(SYS_close, ends[1]);
        return UNABLE;
    }
    if (to_host) {
        kernel_call(SYS_write, ends[1], own, CANARY_LENGTH);
    }
    bool taken = have_done(&ring, (struct io_uring_sqe){
                                      .opcode = to_host ? IORING_OP_READ : IORING_OP_WRITE,
                                      .flags = IOSQE_ASYNC,
                                      .fd = ends[to_host ? 0 : 1],
                                      .addr = attack->target,
                                      .len = CANARY_LENGTH,
                                      .off = (uint64_t)-1,
                                  });
    if (!to_host) {
        kernel_call(SYS_read, ends[0], own, CANARY_LENGTH);
    }
    kernel_call(SYS_close, ring.descriptor);
    kernel_call(SYS_close, ends[0]);
    kernel_call(SYS_close, ends[1]);
    return taken ? 0 : UNABLE;
}

ATTACK(write_by_ring)
{
    uint8_t *marks = malloc(CANARY_LENGTH);
    if (marks == NULL) {
        return 1;
    }
    memset(marks, 0x66, CANARY_LENGTH);
    int code = pass(attack, true, marks);
    free(marks);
    return code;
}

ATTACK(read_by_ring)
{
    uint8_t *told = calloc(1, CANARY_LENGTH);
    if (told == NULL) {
        return 1;
    }
    int code = pass(attack, false, told);
    if (code != 0) {
        free(told);
        return code;
    }
    *output = (struct iso_bytes){told, CANARY_LENGTH};
    return 0;
}
