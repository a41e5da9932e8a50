#include "exchange.h"

#include "../measure/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static uint64_t deadline_after(uint64_t timeout_ns)
{
    if (timeout_ns == 0) {
        return 0;
    }
    uint64_t now = iso_now_ns();
    return timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
}

void exchange_begin(struct exchange *exchange, const struct iso_request *request, bool send)
{
    exchange->pending = true;
    exchange->call++;
    exchange->deadline_ns = deadline_after(request->timeout_ns);
    exchange->request = (struct wire_header){
        .word = (uint32_t)request->function,
        .call = exchange->call,
        .length = request->input_length,
    };
    exchange->input = request->input;
    exchange->sent = 0;
    exchange->to_send = send ? WIRE_HEADER + request->input_length : 0;
    exchange->chunk_length = 0;
    exchange->output = (struct iso_bytes){0};
    exchange->received = 0;
    exchange->header_seen = false;
}

void exchange_drop(struct exchange *exchange)
{
    free(exchange->output.data);
    exchange->output = (struct iso_bytes){0};
    exchange->pending = false;
}

/* ---- ways that a call goes wrong ---- */

static enum iso_status timed_out(struct child *child, struct iso_reply *reply)
{
    end_child(child);
    reply->fault.violation = ISO_VIOLATION_TIMEOUT;
    return ISO_VIOLATION;
}

static enum iso_status malformed(struct child *child, struct iso_reply *reply, const char *what)
{
    end_child(child);
    reply->fault = (struct iso_fault){
        .violation = ISO_VIOLATION_PROTOCOL,
        .exit_code = -1,
        .what = what,
    };
    return ISO_VIOLATION;
}

static enum iso_status broken_off(struct child *child, struct iso_reply *reply)
{
    bury_child(child, &reply->fault);
    return ISO_VIOLATION;
}

/* The system failed us in the middle of a call. The pipes are in an unknown state: start afresh. */
static enum iso_status system_failed(struct child *child, struct iso_reply *reply, const char *what)
{
    reply->fault.system_errno = errno;
    reply->fault.what = what;
    end_child(child);
    return ISO_SYSTEM_ERROR;
}

/* ---- waiting ---- */

enum ready {
    READY_REPLY = 1,   /* the answer, or the end of it */
    READY_REQUEST = 2, /* room in the request pipe */
    READY_DEATH = 4,
};

/* Waits for room (when `sending`), the answer or the child's death, no longer than the deadline.
 * Returns a set of enum ready in *ready, or the status that ends or interrupts the call. */
static enum iso_status wait_for_child(struct exchange *exchange, struct child *child, bool sending,
                                      struct iso_reply *reply, unsigned *ready)
{
    struct timespec left = {0};
    if (exchange->deadline_ns != 0) {
        uint64_t now = iso_now_ns();
        if (now >= exchange->deadline_ns) {
            return timed_out(child, reply); /* a child that never stops talking, too */
        }
        left.tv_sec = (time_t)((exchange->deadline_ns - now) / 1000000000u);
        left.tv_nsec = (long)((exchange->deadline_ns - now) % 1000000000u);
    }
    /* The kernel looks at them in this order. Death comes first, so that who sees it also sees what
     * the child has sent before: its answer, if it runs a single call. */
    struct pollfd waits[3] = {
        {.fd = child->pidfd, .events = POLLIN},
        {.fd = child->reply_read, .events = POLLIN},
        {.fd = child->request_write, .events = POLLOUT},
    };
    int count = ppoll(waits, sending ? 3 : 2, exchange->deadline_ns != 0 ? &left : NULL, NULL);
    if (count < 0) {
        return errno == EINTR ? ISO_INTERRUPTED : system_failed(child, reply, "ppoll");
    }
    if (count == 0) {
        return timed_out(child, reply);
    }
    *ready = (waits[0].revents != 0 ? READY_DEATH : 0u) |
             (waits[1].revents != 0 ? READY_REPLY : 0u) |
             (sending && waits[2].revents != 0 ? READY_REQUEST : 0u);
    return ISO_OK;
}

/* ---- sending ---- */

static ssize_t send_some(const struct exchange *exchange, const struct child *child)
{
    if (exchange->sent >= WIRE_HEADER) {
        return write(child->request_write, exchange->input + (exchange->sent - WIRE_HEADER),
                     exchange->to_send - exchange->sent);
    }
    const uint8_t *header = (const uint8_t *)&exchange->request + exchange->sent;
    size_t header_left = WIRE_HEADER - exchange->sent;
    if (exchange->request.length == 0) {
        return write(child->request_write, header, header_left);
    }
    struct iovec parts[2] = {
        {(void *)(uintptr_t)header, header_left}, /* writev() takes no pointer to const */
        {(void *)(uintptr_t)exchange->input, exchange->request.length},
    };
    return writev(child->request_write, parts, 2);
}

/* Returns ISO_OK when all is sent, and when the child speaks before that: read_header() then sees
 * whether these are its last words. */
static enum iso_status send_request(struct exchange *exchange, struct child *child,
                                    struct iso_reply *reply)
{
    while (exchange->sent < exchange->to_send) {
        ssize_t sent = send_some(exchange, child);
        if (sent >= 0) {
            exchange->sent += (size_t)sent;
        } else if (errno == EINTR) {
            return ISO_INTERRUPTED;
        } else if (errno != EAGAIN) {
            return system_failed(child, reply, "write");
        } else {
            unsigned ready = 0;
            enum iso_status status = wait_for_child(exchange, child, true, reply, &ready);
            if (status != ISO_OK) {
                return status;
            }
            if (ready & READY_REPLY) {
                return ISO_OK;
            }
            if (ready & READY_DEATH) {
                return broken_off(child, reply);
            }
        }
    }
    return ISO_OK;
}

/* ---- receiving ---- */

/*
 * A child can open the other end of a pipe that it has, by /proc/self/fd, and read itself what it
 * has sent: between the caller's seeing it and reading it, too. So a read that follows a wait must
 * not block. One that is to wait itself must, and each call has one or the other: this changes it
 * when a call with a time limit follows one without, or the other way round.
 */
static enum iso_status choose_how_to_read(const struct exchange *exchange, struct child *child,
                                          struct iso_reply *reply)
{
    bool polled = exchange->deadline_ns != 0;
    if (__builtin_expect(child->reply_polled != polled, 0)) {
        if (fcntl(child->reply_read, F_SETFL, polled ? O_NONBLOCK : 0) != 0) {
            return system_failed(child, reply, "fcntl");
        }
        child->reply_polled = polled;
    }
    return ISO_OK;
}

/* One read of at most `room` bytes; *got is how many. */
static enum iso_status receive_some(struct exchange *exchange, struct child *child,
                                    struct iso_reply *reply, uint8_t *buffer, size_t room,
                                    size_t *got)
{
    if (exchange->deadline_ns != 0) {
        unsigned ready = 0;
        enum iso_status status = wait_for_child(exchange, child, false, reply, &ready);
        if (status != ISO_OK) {
            return status;
        }
        if (!(ready & READY_REPLY)) {
            /* Dead, and a descendant keeps the pipe open: no end of file will come. */
            return broken_off(child, reply);
        }
    }
    ssize_t result = read(child->reply_read, buffer, room);
    if (result < 0 && errno == EAGAIN && exchange->deadline_ns != 0) {
        *got = 0; /* what was there is gone: wait for more */
        return ISO_OK;
    }
    if (result < 0) {
        return errno == EINTR ? ISO_INTERRUPTED : system_failed(child, reply, "read");
    }
    if (result == 0) {
        return broken_off(child, reply);
    }
    *got = (size_t)result;
    return ISO_OK;
}

/* A death note instead of an answer. What it says of addresses is passed on, not relied on. It may
 * name an earlier call, if the child died between two; then it must be true. */
static enum iso_status read_note(const struct exchange *exchange, const struct wire_header *header,
                                 struct child *child, struct iso_reply *reply)
{
    struct wire_note note;
    if (header->length != (WIRE_NOTE | sizeof(note)) ||
        exchange->chunk_length != WIRE_HEADER + sizeof(note)) {
        return malformed(child, reply, "a death note of the wrong length");
    }
    memcpy(&note, exchange->chunk + WIRE_HEADER, sizeof(note));
    enum iso_status status = broken_off(child, reply);
    if (reply->fault.violation == ISO_VIOLATION_SIGNAL && reply->fault.signal == note.signal) {
        reply->fault.access =
            note.access <= ISO_ACCESS_EXECUTE ? (enum iso_access)note.access : ISO_ACCESS_UNKNOWN;
        reply->fault.instruction = note.instruction;
        if (note.signal == SIGSYS) {
            reply->fault.system_call_known = note.address_known != 0;
            reply->fault.system_call = (int)note.address;
        } else {
            reply->fault.address_known = note.address_known != 0;
            reply->fault.address = note.address;
        }
    } else if (header->call != exchange->call) {
        return malformed(child, reply, "an answer to another call");
    }
    return status;
}

/* Of a note that the end of the first read has cut: it was written at once, so it is there. This is
 * not to wait for one that is none; the child is at its end either way. */
static void read_rest_of_note(struct exchange *exchange, const struct child *child)
{
    if (fcntl(child->reply_read, F_SETFL, O_NONBLOCK) == 0) {
        ssize_t got = read(child->reply_read, exchange->chunk + WIRE_CHUNK, WIRE_NOTE_FRAME);
        exchange->chunk_length += got > 0 ? (size_t)got : 0;
    }
}

/* Bytes after a whole answer. None belong there, but the child may have died since, as in free() of
 * an output that it wrote beyond: then they are a note, and true. */
static enum iso_status read_excess(struct exchange *exchange, size_t from, struct child *child,
                                   struct iso_reply *reply)
{
    if (exchange->chunk_length == WIRE_CHUNK) {
        read_rest_of_note(exchange, child);
    }
    exchange->chunk_length -= from;
    memmove(exchange->chunk, exchange->chunk + from, exchange->chunk_length);
    struct wire_header header = {0};
    if (exchange->chunk_length >= sizeof(header)) {
        memcpy(&header, exchange->chunk, sizeof(header));
    }
    if (header.length & WIRE_NOTE) {
        enum iso_status status = read_note(exchange, &header, child, reply);
        if (reply->fault.violation == ISO_VIOLATION_SIGNAL) {
            return status;
        }
    }
    return malformed(child, reply, "an answer longer than it said");
}

static enum iso_status read_header(struct exchange *exchange, struct child *child,
                                   struct iso_reply *reply)
{
    struct wire_header header;
    memcpy(&header, exchange->chunk, sizeof(header));
    if (header.length & WIRE_NOTE) {
        return read_note(exchange, &header, child, reply);
    }
    if (header.call != exchange->call) {
        return malformed(child, reply, "an answer to another call");
    }
    if (exchange->sent < exchange->to_send) {
        return malformed(child, reply, "an answer before the request was read");
    }
    if (header.length > exchange->max_output_length) {
        return malformed(child, reply, "an answer longer than the limit");
    }
    if (header.word != 0 && header.length != 0) {
        return malformed(child, reply, "an error code with output");
    }
    size_t with_header = exchange->chunk_length - WIRE_HEADER;
    if (with_header > header.length) {
        return read_excess(exchange, WIRE_HEADER + (size_t)header.length, child, reply);
    }
    if (header.length != 0) {
        exchange->output.data = malloc((size_t)header.length);
        if (exchange->output.data == NULL) {
            return system_failed(child, reply, "malloc");
        }
        exchange->output.length = (size_t)header.length;
        memcpy(exchange->output.data, exchange->chunk + WIRE_HEADER, with_header);
        exchange->received = with_header;
    }
    exchange->code = header.word;
    exchange->header_seen = true;
    return ISO_OK;
}

static enum iso_status receive_answer(struct exchange *exchange, struct child *child,
                                      struct iso_reply *reply)
{
    enum iso_status status = choose_how_to_read(exchange, child, reply);
    if (status != ISO_OK) {
        return status;
    }
    while (!exchange->header_seen) {
        size_t got = 0;
        status = receive_some(exchange, child, reply, exchange->chunk + exchange->chunk_length,
                              WIRE_CHUNK - exchange->chunk_length, &got);
        if (status != ISO_OK) {
            return status;
        }
        exchange->chunk_length += got;
        if (exchange->chunk_length >= WIRE_HEADER) {
            status = read_header(exchange, child, reply);
            if (status != ISO_OK) {
                return status;
            }
        }
    }
    while (exchange->received < exchange->output.length) {
        size_t got = 0;
        status = receive_some(exchange, child, reply, exchange->output.data + exchange->received,
                              exchange->output.length - exchange->received, &got);
        if (status != ISO_OK) {
            return status;
        }
        exchange->received += got;
    }
    return ISO_OK;
}

enum iso_status exchange_run(struct exchange *exchange, struct child *child,
                             struct iso_reply *reply)
{
    reply->output = (struct iso_bytes){0};
    reply->fault = (struct iso_fault){.exit_code = -1};
    enum iso_status status = send_request(exchange, child, reply);
    if (status == ISO_OK) {
        status = receive_answer(exchange, child, reply);
    }
    if (status == ISO_INTERRUPTED) {
        return status;
    }
    if (status == ISO_OK) {
        reply->foreign_code = (int)exchange->code;
        reply->output = exchange->output;
        exchange->output = (struct iso_bytes){0};
        if (reply->foreign_code != 0) {
            status = ISO_FOREIGN_ERROR;
        }
    }
    exchange_drop(exchange);
    return status;
}
