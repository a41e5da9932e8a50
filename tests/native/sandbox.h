/* Sandboxes as tests use them: every foreign function of the project is in their tables. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include "check.h"

#include "isolation.h"

#if defined(__x86_64__)
#define MACHINE_FUNCTIONS(X)                                                                       \
    X(hostile, divide)                                                                             \
    X(hostile, bus_error)                                                                          \
    X(hostile, breakpoint)                                                                         \
    X(hostile, single_step)                                                                        \
    X(hostile, jump_cleared)                                                                       \
    X(hostile, wild_stack)                                                                         \
    X(hostile, dirty_state)                                                                        \
    X(hostile, lose_fs_and_fault)                                                                  \
    X(hostile, system_call)                                                                        \
    X(hostile, use_heap_and_call)                                                                  \
    X(hostile, system_call_with)                                                                   \
    X(hostile, call_with)                                                                          \
    X(hostile, pending_fpu_exception)                                                              \
    X(hostile, fpu_exception_flags)                                                                \
    X(hostile, old_system_call)                                                                    \
    X(hostile, jump_with)                                                                          \
    X(hostile, take_rights)                                                                        \
    X(hostile, forge_frame)
#else
#define MACHINE_FUNCTIONS(X)
#endif

#define FOREIGN_FUNCTIONS(X)                                                                       \
    X(benign, echo)                                                                                \
    X(benign, reverse)                                                                             \
    X(benign, error)                                                                               \
    X(benign, count)                                                                               \
    X(benign, throw)                                                                               \
    X(hostile, write)                                                                              \
    X(hostile, read)                                                                               \
    X(hostile, jump)                                                                               \
    X(hostile, abort)                                                                              \
    X(hostile, exit)                                                                               \
    X(hostile, raise)                                                                              \
    X(hostile, illegal_instruction)                                                                \
    X(hostile, stack_overflow)                                                                     \
    X(hostile, loop)                                                                               \
    X(hostile, sleep)                                                                              \
    X(hostile, block_signals_and_loop)                                                             \
    X(hostile, null_output)                                                                        \
    X(hostile, long_output)                                                                        \
    X(hostile, close_descriptors)                                                                  \
    X(hostile, leave_a_child)                                                                      \
    X(hostile, forge)                                                                              \
    X(hostile, use_heap)                                                                           \
    X(hostile, use_heap_and_fault)                                                                 \
    X(hostile, use_stack)                                                                          \
    X(hostile, smash_stack)                                                                        \
    X(hostile, corrupt_heap)                                                                       \
    X(hostile, free_twice)                                                                         \
    X(hostile, free_wild)                                                                          \
    X(hostile, wild_output)                                                                        \
    X(hostile, endless_output)                                                                     \
    X(hostile, use_after_free)                                                                     \
    X(hostile, inner_output)                                                                       \
    X(hostile, set_errno)                                                                          \
    MACHINE_FUNCTIONS(X)

#define INDEX(library, name) library##_##name,
enum foreign { FOREIGN_FUNCTIONS(INDEX) own_function, FUNCTION_COUNT };
#undef INDEX

/* The function itself, loaded as the project loads foreign code. */
iso_function *foreign(enum foreign function);

struct box {
    const struct iso_mechanism *mechanism;
    iso_function *own; /* in the table as own_function */
    bool stays_dead;   /* must not respawn */
    bool pinned;       /* to `cpu` */
    int cpu;
    size_t max_output_length; /* 0: no limit */
    bool hardened;
    uint64_t address_space; /* of a hardened child; 0: no limit */
    const char *codec;      /* of iso_domain_serialised */
    bool model;             /* of a domain, without protection keys */

    struct iso_sandbox *sandbox; /* set by open_box() */
    iso_function *table[FUNCTION_COUNT];
};

struct answer {
    enum iso_status status;
    struct iso_reply reply;
};

extern const struct iso_mechanism *const walls[2]; /* iso_pipe and iso_fork */

#define FOR_EACH_WALL(wall)                                                                        \
    for (const struct iso_mechanism *const *at_##wall = walls, *wall = *at_##wall;                 \
         at_##wall < walls + 2 && (wall = *at_##wall, true); at_##wall++)

/* Opens what the first fields describe. Of the answer there is the status and reply.fault. */
struct answer try_open(struct box *box);
void open_box(struct box *box); /* and fails the test if it does not open */
void close_box(struct box *box);

struct answer call(const struct box *box, enum foreign function, const void *input, size_t length);
struct answer call_number(const struct box *box, enum foreign function, uint64_t number);
struct answer call_within(const struct box *box, uint64_t timeout_ns, enum foreign function,
                          const void *input, size_t length);
struct answer resume(const struct box *box);
void release(const struct box *box, struct answer *answer);

#define MS UINT64_C(1000000) /* in ns */

/* Skips the test where no child can be hardened. */
void require_hardening(void);

/* ---- what an answer must be; releases it ---- */

#define CHECK_OUTPUT(box, answer, wanted, length)                                                  \
    check_output(__FILE__, __LINE__, (box), (answer), (wanted), (length))
#define CHECK_NUMBER(box, answer, wanted)                                                          \
    check_number(__FILE__, __LINE__, (box), (answer), (wanted))
#define CHECK_SIGNAL(answer, signal)                                                               \
    check_violation(__FILE__, __LINE__, (answer), ISO_VIOLATION_SIGNAL, (signal), NULL)
#define CHECK_EXIT(answer, exit_code)                                                              \
    check_violation(__FILE__, __LINE__, (answer), ISO_VIOLATION_EXIT, (exit_code), NULL)
#define CHECK_TIMEOUT(answer)                                                                      \
    check_violation(__FILE__, __LINE__, (answer), ISO_VIOLATION_TIMEOUT, 0, NULL)
#define CHECK_PROTOCOL(answer, what)                                                               \
    check_violation(__FILE__, __LINE__, (answer), ISO_VIOLATION_PROTOCOL, 0, (what))
#define CHECK_REFUSED(answer, error, what)                                                         \
    check_refused(__FILE__, __LINE__, (answer), (error), (what))
#define CHECK_WORKS(box) check_works(__FILE__, __LINE__, (box))

void check_output(const char *file, int line, const struct box *box, struct answer answer,
                  const void *wanted, size_t length);
void check_number(const char *file, int line, const struct box *box, struct answer answer,
                  uint64_t wanted);
void check_violation(const char *file, int line, struct answer answer, enum iso_violation kind,
                     int number, const char *what);
void check_refused(const char *file, int line, struct answer answer, int error, const char *what);

/* The next call is right. */
void check_works(const char *file, int line, const struct box *box);

/* ---- for foreign functions of a test's own ---- */

/* The pipe that answers go to, seen from within the sandbox. */
int answer_pipe(void);

#endif
