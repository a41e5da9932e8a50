/*
 * The contract between a mechanism (how a wall is built) and those who call through it.
 *
 * A mechanism opens sandboxes. A sandbox runs foreign functions from a table that is fixed when it
 * is opened: a call names a function by its index, never by a pointer that crosses the wall. Input
 * is borrowed from the caller for the time of the call; output ends up owned by the caller.
 *
 * Nothing behind this interface prints, exits the caller's process or asserts on what happens at
 * run time: whatever the foreign function does, the caller gets one of the codes below.
 *
 * A sandbox is used by one thread at a time; callers that share one bring their own lock. fork() in
 * the caller's process is allowed at any time: in the new process every sandbox is as if freshly
 * opened, save that one that must not respawn stays dead.
 */
#ifndef ISOLATION_H
#define ISOLATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct iso_bytes {
    uint8_t *data; /* NULL when length is 0 */
    size_t length; /* bytes */
};

/*
 * A foreign function. Returns 0 and leaves its result in *output, in memory from malloc(); or
 * returns an error code of its own and leaves *output alone. *output is {NULL, 0} on entry.
 */
typedef int iso_function(const uint8_t *input, size_t input_length, struct iso_bytes *output);

enum iso_status {
    ISO_OK = 0,
    ISO_FOREIGN_ERROR = 1, /* the function returned an error: reply.foreign_code; nothing is lost */
    ISO_VIOLATION = 2,     /* the call ended other than by returning: reply.fault */
    ISO_INTERRUPTED = 3,   /* a signal handler ran while waiting: resume() or cancel() */
    ISO_DEAD = 4,          /* an earlier violation ended this sandbox and it must not respawn */
    ISO_BAD_ARGUMENT = 5,  /* no such function, or no call to resume */
    ISO_SYSTEM_ERROR = 6,  /* the system refused: fault.system_errno, fault.what */
    ISO_BUSY = 7,          /* the sandbox, or this thread's other one, is in a call */
};

enum iso_violation {
    ISO_VIOLATION_NONE = 0,
    ISO_VIOLATION_SIGNAL = 1,   /* fault.signal, and what is known of address and instruction */
    ISO_VIOLATION_EXIT = 2,     /* fault.exit_code; -1 when somebody else collected the status, or
                                 * keeps it. 125 is also a child's that the system refused what it
                                 * needs */
    ISO_VIOLATION_TIMEOUT = 3,  /* the time limit of the request passed */
    ISO_VIOLATION_PROTOCOL = 4, /* a malformed answer: fault.what */
};

enum iso_access {
    ISO_ACCESS_UNKNOWN = 0,
    ISO_ACCESS_READ = 1,
    ISO_ACCESS_WRITE = 2,
    ISO_ACCESS_EXECUTE = 3,
};

/*
 * What is known of a violation or a refused system call. Everything here that the sandboxed side
 * reported (address, instruction, access) is for a human to read and may be a lie.
 */
struct iso_fault {
    enum iso_violation violation;
    int signal;       /* signal number, or 0 */
    int exit_code;    /* exit status, or -1 */
    int system_errno; /* errno of the refused system call, or 0 */
    /* The system call, or the rule that was broken; or NULL. A static string; but of open(), one
     * that is valid until this thread's next open(). */
    const char *what;
    enum iso_access access;
    bool address_known;        /* address means something */
    uint64_t address;          /* the address that was accessed */
    uint64_t instruction;      /* the address of the instruction that did it, or 0 */
    bool protection_key_known; /* a protection key refused the access: this one */
    int protection_key;
    bool system_call_known; /* a system call was refused: this one */
    int system_call;
};

struct iso_request {
    size_t function; /* index into the table given to open */
    const uint8_t *input;
    size_t input_length;
    /* Wall-clock limit of the call; 0: none. Without one the caller waits as long as the function
     * runs, or as long as a process that it left behind keeps the sandbox's pipe open. Processes
     * that the system is slow to end, or that are kept by a tracer, are waited for 200 ms more,
     * all together. */
    uint64_t timeout_ns;
};

struct iso_reply {
    struct iso_bytes output; /* owned by the caller after ISO_OK: release() it */
    int foreign_code;        /* after ISO_FOREIGN_ERROR */
    struct iso_fault fault;  /* after ISO_VIOLATION and ISO_SYSTEM_ERROR */
};

/* Where a sandbox whose outside writes are let through notes them, instead of refusing them. */
struct iso_outside_write {
    uint64_t instruction; /* that wrote */
    uint64_t address;     /* where */
    uint64_t times;
};
struct iso_audit {
    struct iso_outside_write *writes; /* room for so many: */
    size_t room;
    size_t count;  /* of different ones */
    uint64_t lost; /* that found no room */
};

/* A function by name, for mechanisms that load libraries themselves. */
struct iso_symbol {
    const char *library; /* a path, or a name that the dynamic loader finds */
    const char *name;
};

struct iso_options {
    iso_function *const *functions;   /* borrowed for the time of open(); or, where the */
    const struct iso_symbol *symbols; /* mechanism loads libraries, these */
    size_t function_count;
    const char *codec;        /* of iso_domain_serialised: a name that codec_find() knows */
    bool allow_syscalls;      /* foreign code may make system calls: a weaker wall */
    struct iso_audit *audit;  /* borrowed until close; needs allow_syscalls; NULL: a wall. Only
                               * mechanisms that load libraries know it. */
    bool strict;              /* iso_domain*: refuse libraries with code that could open the domain
                               * from within (EPERM). Others do not know it. */
    bool model_keys;          /* No wall: iso_domain* without protection keys, for timing all but
                               * WRPKRU where the CPU has none. Others do not know it. */
    int sandbox_cpu;          /* CPU that the sandboxed side is pinned to; -1: wherever */
    bool respawn;             /* after a violation the next call starts a new child */
    size_t max_output_length; /* a longer result is a violation */
    bool hardened;            /* iso_pipe and iso_fork; others do not know it */
    uint64_t address_space;   /* of a hardened child, in bytes, what it has from its parent
                               * included; 0: as its parent's */
};

/* One batch of a timed loop. */
struct iso_batch {
    uint64_t loops;        /* in: calls to time */
    uint64_t elapsed_ns;   /* out: CLOCK_MONOTONIC around all of them */
    struct iso_reply last; /* out: the last call's reply, owned by the caller */
};

struct iso_sandbox; /* each mechanism has its own */

struct iso_mechanism {
    const char *name;
    bool loads_libraries; /* open() takes symbols, not functions */

    /* Opens a sandbox. On failure *sandbox is NULL and *fault says why. */
    enum iso_status (*open)(const struct iso_options *options, struct iso_sandbox **sandbox,
                            struct iso_fault *fault);

    /* Runs one call. Of *reply it writes `output` always, and what belongs to the status. A call
     * that was interrupted before and not resumed is cancelled. */
    enum iso_status (*call)(struct iso_sandbox *sandbox, const struct iso_request *request,
                            struct iso_reply *reply);

    /* Goes on with a call that returned ISO_INTERRUPTED. NULL: this mechanism never does. */
    enum iso_status (*resume)(struct iso_sandbox *sandbox, struct iso_reply *reply);

    /* Gives such a call up; what runs it is ended, as by a violation. NULL as above. */
    void (*cancel)(struct iso_sandbox *sandbox);

    /* Gives a result back. */
    void (*release)(struct iso_sandbox *sandbox, struct iso_bytes *output);

    /* Makes `batch->loops` calls and times them together. A status other than ISO_OK ends it;
     * ISO_INTERRUPTED cannot be resumed here, only cancelled. */
    enum iso_status (*loop)(struct iso_sandbox *sandbox, const struct iso_request *request,
                            struct iso_batch *batch);

    /* Ends the sandbox and everything that belongs to it. */
    void (*close)(struct iso_sandbox *sandbox);

    /* Process id of the sandboxed side; 0 when there is none now. NULL: it has no process. */
    int (*process)(const struct iso_sandbox *sandbox);

    /* Where a function of the table lies in the sandbox; NULL: there is no such. NULL: as in this
     * process. */
    const void *(*address)(const struct iso_sandbox *sandbox, size_t function);
};

/*
 * Memory under a protection key of its own, for secrets that sandboxes of iso_domain and
 * iso_domain_view are not to read: they have no rights to it but those that they are granted.
 */
struct iso_data {
    uint8_t *memory;
    size_t length; /* bytes: what was asked for, in whole pages */
    int key;
};
enum iso_rights { ISO_RIGHTS_NONE = 0, ISO_RIGHTS_READ = 1, ISO_RIGHTS_WRITE = 2 };

/*
 * Memory of the trusted heap, which functions called through iso_pkru_safe can neither read nor
 * write. All trusted memory of the process is under one key, which every such call closes. This
 * description of it is read-only.
 */
struct iso_trusted {
    uint8_t *memory; /* open to the thread that opened it, and to those that it starts */
    size_t length;   /* bytes: what was asked for, in whole pages */
};

#pragma GCC visibility push(default)
/* Zeroed memory. On failure *data is NULL and *fault says why. */
enum iso_status iso_data_open(size_t length, struct iso_data **data, struct iso_fault *fault);
/* Rights that were granted end with it. */
void iso_data_close(struct iso_data *data);
/* From the sandbox's next call on; the sandbox is one of those two mechanisms'. */
void iso_data_grant(struct iso_sandbox *sandbox, const struct iso_data *data,
                    enum iso_rights rights);

/* Whether children can be hardened here: whether open() takes iso_options.hardened. */
enum iso_hardening {
    ISO_HARDENING_HERE = 0,
    ISO_HARDENING_NOT_BUILT = 1,  /* libseccomp was not there */
    ISO_HARDENING_NO_FILTERS = 2, /* the kernel has no seccomp filters */
};
enum iso_hardening iso_hardening_here(void);
/* Of Landlock's ABI in this kernel, which a hardened child uses; 0: there is none, and files are
 * out of its reach by its seccomp filter alone. */
int iso_landlock_version(void);

extern const struct iso_mechanism iso_direct; /* no wall */
extern const struct iso_mechanism iso_pipe;   /* a persistent forked child behind two pipes */
extern const struct iso_mechanism iso_fork;   /* a forked child for each call */
extern const struct iso_mechanism iso_floor;  /* no function at all: the two pipes, bare */
extern const struct iso_mechanism iso_domain; /* a protection key; the result is copied out */
/* The same, and the result is where the domain wrote it, until release(): it cannot be written by
 * the caller, and the domain's later calls may change it. A thread that has never used a domain,
 * or only in a signal's handler, reads it before it hands it to a system call, which would fail
 * with EFAULT. */
extern const struct iso_mechanism iso_domain_view;
/* The input is copied in and the result out, laid out by a codec: SDRaD-FFI's way. */
extern const struct iso_mechanism iso_domain_serialised;

/* Zeroed memory. On failure *heap is NULL and *fault says why. */
enum iso_status iso_trusted_open(size_t length, struct iso_trusted **heap, struct iso_fault *fault);
void iso_trusted_close(struct iso_trusted *heap);
/* From any thread. False: that is not within the heap. */
bool iso_trusted_write(struct iso_trusted *heap, size_t offset, const void *data, size_t length);
bool iso_trusted_read(const struct iso_trusted *heap, size_t offset, void *data, size_t length);

/* The caller's stack and heap; the trusted heap closed by its key; a violation ends the process. A
 * function may read an iso_domain_view's result, but not itself call a domain: that opens the heap
 * to it, and ends the process if its thread had used none. */
extern const struct iso_mechanism iso_pkru_safe;
#pragma GCC visibility pop

#endif
