/*
 * A fuzz target for what the parent of a process wall reads: the input is what a lying child writes
 * and how the kernel deals it out.
 *
 *   byte 0  flags, see enum flag
 *   byte 1  the limit of an answer: 4 KiB with the high bit, else so many bytes; 127: none
 *   byte 2  bytes of the request's input
 *   byte 3  how many bytes of schedule follow, modulo 64
 *   then    the schedule: one byte a system call, see struct step; without it all goes well
 *   then    what the child writes; after that it closes its end
 *
 * The conversation goes on, call after call, until the child is gone. An answer that is taken must
 * be the child's own bytes, all of them and no more, to this call and within the limit; whatever
 * else it says must end it, with a reason, and nothing may be read from it afterwards.
 *
 * libFuzzer calls this (README.md), and so does tests/native/fuzz_corpus.c.
 */
#include "require.h"

#include "../../native/measure/clock.h"
#include "../../native/process/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum flag {
    FLAG_SEND = 1,     /* the request goes through a pipe; else the child has it from birth */
    FLAG_DEADLINE = 2, /* the call is limited in time, so that each read is waited for */
    FLAG_CANCEL = 4,   /* an interrupted call is given up instead of resumed */
    FLAG_EXIT = 8,     /* what the child dies of: it exits; */
    FLAG_LIVES = 16,   /* it lives on; neither: SIGSEGV */
};

/* ---- the kernel, as the input has it ---- */

struct step {
    uint8_t what;   /* low three bits */
    uint8_t amount; /* the others */
};

static struct {
    uint8_t flags;
    const uint8_t *schedule;
    size_t steps;
    const uint8_t *stream;
    size_t left;
    const uint8_t *request; /* what must be written */
    size_t request_length;
    size_t written;
    uint64_t now;
    bool polled; /* reading does not block */
    bool child_gone;
} kernel;

static struct step next_step(void)
{
    REQUIRE(!kernel.child_gone);
    if (kernel.steps == 0) {
        return (struct step){7, 0};
    }
    kernel.steps--;
    uint8_t byte = *kernel.schedule++;
    return (struct step){byte % 8, byte / 8};
}

static ssize_t refuse(int error)
{
    errno = error;
    return -1;
}

static size_t at_most(size_t one, size_t other)
{
    return one < other ? one : other;
}

static ssize_t scripted_read(int descriptor, void *buffer, size_t room)
{
    REQUIRE(descriptor == 1 && room > 0);
    struct step step = next_step();
    if (step.what <= 1) {
        bool stolen = kernel.polled && step.amount % 2 == 1;
        return step.what == 0 ? refuse(EINTR) : stolen ? refuse(EAGAIN) : refuse(EIO);
    }
    size_t got = at_most(room, kernel.left);
    got = step.what <= 4 ? at_most(got, (size_t)step.amount + 1) : got;
    if (got > 0) {
        memcpy(buffer, kernel.stream, got);
    }
    kernel.stream += got;
    kernel.left -= got;
    return (ssize_t)got;
}

static ssize_t scripted_writev(int descriptor, const struct iovec *parts, int count)
{
    REQUIRE(descriptor == 2);
    struct step step = next_step();
    if (step.what <= 2) {
        return refuse(step.what == 0 ? EINTR : step.what == 1 ? EIO : EAGAIN);
    }
    size_t taken = 0;
    size_t limit = step.what <= 4 ? (size_t)step.amount + 1 : SIZE_MAX;
    for (int i = 0; i < count && limit > 0; i++) {
        size_t some = at_most(parts[i].iov_len, limit);
        REQUIRE(some <= kernel.request_length - kernel.written);
        REQUIRE(memcmp(parts[i].iov_base, kernel.request + kernel.written, some) == 0);
        kernel.written += some;
        taken += some;
        limit -= some;
    }
    return (ssize_t)taken;
}

static ssize_t scripted_write(int descriptor, const void *data, size_t length)
{
    struct iovec part = {(void *)(uintptr_t)data, length};
    return scripted_writev(descriptor, &part, 1);
}

static int scripted_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit,
                          const sigset_t *mask)
{
    REQUIRE(mask == NULL &&
            (limit == NULL || (limit->tv_nsec >= 0 && limit->tv_nsec < 1000000000)));
    struct step step = next_step();
    if (step.what == 0) {
        return (int)refuse(step.amount == 0 ? ENOMEM : EINTR);
    }
    int ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        waits[i].revents = step.what >> i & 1 ? waits[i].events : 0;
        ready += waits[i].revents != 0;
    }
    if (ready == 0 && limit == NULL) {
        waits[1].revents = POLLIN; /* it waits until something is there */
        ready = 1;
    }
    return ready;
}

static int scripted_fcntl(int descriptor, int command, int flags)
{
    REQUIRE(descriptor == 1 && command == F_SETFL && !kernel.child_gone);
    kernel.polled = flags == O_NONBLOCK;
    return 0;
}

/* Half a second passes at each look at the clock. */
static uint64_t scripted_now(void)
{
    return kernel.now += 500000000;
}

static void *limited_malloc(size_t size)
{
    REQUIRE(size > 0);
    return size <= 1 << 20 ? malloc(size) : (errno = ENOMEM, NULL);
}

#define read scripted_read
#define write scripted_write
#define writev scripted_writev
#define ppoll scripted_ppoll
#define fcntl scripted_fcntl
#define iso_now_ns scripted_now
#define malloc limited_malloc
#include "../../native/process/exchange.c"
#undef malloc

/* ---- the child, of which nothing else is left than how it ends ---- */

void end_child(struct child *child)
{
    kernel.child_gone = true;
    child->pid = 0;
}

void bury_child(struct child *child, struct iso_fault *fault)
{
    REQUIRE(!kernel.child_gone);
    end_child(child);
    if (kernel.flags & FLAG_LIVES) {
        fault->violation = ISO_VIOLATION_PROTOCOL;
        fault->what = "it lived on";
    } else if (kernel.flags & FLAG_EXIT) {
        fault->violation = ISO_VIOLATION_EXIT;
        fault->exit_code = 3;
    } else {
        fault->violation = ISO_VIOLATION_SIGNAL;
        fault->signal = 11;
    }
}

/* ---- what must hold ---- */

static void check_answer(const struct exchange *exchange, const struct iso_reply *reply,
                         const uint8_t *said, size_t taken, bool ok)
{
    struct wire_header header;
    REQUIRE(taken >= sizeof(header));
    memcpy(&header, said, sizeof(header));
    REQUIRE(header.call == exchange->call);
    REQUIRE(header.word == (uint32_t)reply->foreign_code && ok == (header.word == 0));
    REQUIRE(header.length == reply->output.length);
    REQUIRE(header.length <= exchange->max_output_length);
    REQUIRE(taken == sizeof(header) + header.length);
    REQUIRE((reply->output.data == NULL) == (header.length == 0));
    REQUIRE(header.length == 0 ||
            memcmp(reply->output.data, said + sizeof(header), header.length) == 0);
    REQUIRE(kernel.written == kernel.request_length);
    REQUIRE(!kernel.child_gone);
}

static void check_fault(const struct iso_reply *reply, enum iso_status status)
{
    const struct iso_fault *fault = &reply->fault;
    REQUIRE(kernel.child_gone);
    REQUIRE(reply->output.data == NULL && reply->output.length == 0);
    if (status == ISO_SYSTEM_ERROR) {
        REQUIRE(fault->system_errno != 0 && fault->what != NULL);
        return;
    }
    REQUIRE(status == ISO_VIOLATION);
    REQUIRE(fault->violation > ISO_VIOLATION_NONE && fault->violation <= ISO_VIOLATION_PROTOCOL);
    REQUIRE((fault->violation == ISO_VIOLATION_PROTOCOL) == (fault->what != NULL));
    REQUIRE(fault->violation != ISO_VIOLATION_TIMEOUT || (kernel.flags & FLAG_DEADLINE));
    REQUIRE(fault->violation == ISO_VIOLATION_SIGNAL ? fault->signal == 11 : fault->signal == 0);
    if (fault->violation != ISO_VIOLATION_SIGNAL) {
        /* Only a death that happened has a note. */
        REQUIRE(!fault->address_known && fault->address == 0 && fault->instruction == 0);
    }
    REQUIRE(fault->access <= ISO_ACCESS_EXECUTE);
}

/* Returns whether there can be another call. */
static bool call(struct exchange *exchange, struct child *child, const struct iso_request *request)
{
    bool send = (kernel.flags & FLAG_SEND) != 0;
    uint8_t wire[WIRE_HEADER + UINT8_MAX];
    struct wire_header header = {(uint32_t)request->function, exchange->call + 1,
                                 request->input_length};
    memcpy(wire, &header, sizeof(header));
    memcpy(wire + sizeof(header), request->input, request->input_length);
    kernel.request = wire;
    kernel.request_length = send ? sizeof(header) + request->input_length : 0;
    kernel.written = 0;

    const uint8_t *said = kernel.stream;
    exchange_begin(exchange, request, send);
    struct iso_reply reply;
    enum iso_status status = exchange_run(exchange, child, &reply);
    while (status == ISO_INTERRUPTED && !(kernel.flags & FLAG_CANCEL)) {
        REQUIRE(exchange->pending && !kernel.child_gone);
        status = exchange_run(exchange, child, &reply);
    }
    if (status == ISO_INTERRUPTED) {
        exchange_drop(exchange);
        return false;
    }
    REQUIRE(!exchange->pending && exchange->output.data == NULL);
    if (status != ISO_OK && status != ISO_FOREIGN_ERROR) {
        check_fault(&reply, status);
        return false;
    }
    check_answer(exchange, &reply, said, (size_t)(kernel.stream - said), status == ISO_OK);
    free(reply.output.data);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEAD = 4 };
    static const uint8_t content[UINT8_MAX] = "what the function is called with";
    if (size < HEAD) {
        return 0;
    }
    size_t steps = at_most(data[3] % 64, size - HEAD);
    memset(&kernel, 0, sizeof(kernel));
    kernel.flags = data[0];
    kernel.schedule = data + HEAD;
    kernel.steps = steps;
    kernel.stream = data + HEAD + steps;
    kernel.left = size - HEAD - steps;

    struct child child = {.pid = 1, .pidfd = 3, .request_write = 2, .reply_read = 1};
    struct exchange exchange = {.max_output_length = data[1] == 127  ? SIZE_MAX
                                                     : data[1] > 127 ? 4096
                                                                     : data[1]};
    struct iso_request request = {
        .function = 5,
        .input = content,
        .input_length = data[2],
        .timeout_ns = data[0] & FLAG_DEADLINE ? 10000000000 : 0,
    };
    while (call(&exchange, &child, &request)) {
    }
    return 0;
}
