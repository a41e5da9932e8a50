#include "sandbox.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct iso_mechanism *const walls[2] = {&iso_pipe, &iso_fork};

void require_hardening(void)
{
    if (iso_hardening_here() != ISO_HARDENING_HERE) {
        skip("built without libseccomp, or on a kernel without seccomp filters");
    }
}

/* ---- opening ---- */

static void *benign_library;
static void *hostile_library;

__attribute__((constructor)) static void load_libraries(void)
{
    benign_library = dlopen(BENIGN_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    hostile_library = dlopen(HOSTILE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    CHECK(benign_library != NULL && hostile_library != NULL);
}

iso_function *foreign(enum foreign function)
{
#define NAME(library, name) {&library##_library, #library "_" #name},
    static const struct {
        void **library;
        const char *name;
    } names[] = {FOREIGN_FUNCTIONS(NAME)};
#undef NAME
    union { /* POSIX's way from an object pointer to a function pointer */
        void *object;
        iso_function *function;
    } symbol = {.object = dlsym(*names[function].library, names[function].name)};
    CHECK(symbol.object != NULL);
    return symbol.function;
}

struct answer try_open(struct box *box)
{
    check_context = box->mechanism->name;
    for (size_t i = 0; i < own_function; i++) {
        box->table[i] = foreign((enum foreign)i);
    }
    box->table[own_function] = box->own;
#define NAME(library, name) {library##_path, #library "_" #name},
    static const char *const benign_path = BENIGN_LIBRARY, *const hostile_path = HOSTILE_LIBRARY;
    const struct iso_symbol symbols[] = {FOREIGN_FUNCTIONS(NAME)};
#undef NAME
    struct iso_options options = {
        .functions = box->table,
        .symbols = symbols,
        .function_count = box->own != NULL ? FUNCTION_COUNT : own_function,
        .sandbox_cpu = box->pinned ? box->cpu : -1,
        .respawn = !box->stays_dead,
        .codec = box->codec,
        .model_keys = box->model,
        .max_output_length = box->max_output_length != 0 ? box->max_output_length : SIZE_MAX,
        .hardened = box->hardened,
        .address_space = box->address_space,
    };
    struct answer answer = {0};
    answer.status = box->mechanism->open(&options, &box->sandbox, &answer.reply.fault);
    return answer;
}

void open_box(struct box *box)
{
    struct answer answer = try_open(box);
    if (answer.status != ISO_OK) {
        check_failed(__FILE__, __LINE__, "open: %s: %s", answer.reply.fault.what,
                     strerror(answer.reply.fault.system_errno));
    }
}

void close_box(struct box *box)
{
    box->mechanism->close(box->sandbox);
    box->sandbox = NULL;
}

/* ---- calling ---- */

struct answer call_within(const struct box *box, uint64_t timeout_ns, enum foreign function,
                          const void *input, size_t length)
{
    struct iso_request request = {
        .function = function,
        .input = input,
        .input_length = length,
        .timeout_ns = timeout_ns,
    };
    struct answer answer;
    memset(&answer, 0xa5, sizeof(answer)); /* what a call does not write is garbage */
    answer.status = box->mechanism->call(box->sandbox, &request, &answer.reply);
    return answer;
}

struct answer call(const struct box *box, enum foreign function, const void *input, size_t length)
{
    return call_within(box, 0, function, input, length);
}

struct answer call_number(const struct box *box, enum foreign function, uint64_t number)
{
    return call(box, function, &number, sizeof(number));
}

struct answer resume(const struct box *box)
{
    struct answer answer;
    memset(&answer, 0xa5, sizeof(answer));
    answer.status = box->mechanism->resume(box->sandbox, &answer.reply);
    return answer;
}

void release(const struct box *box, struct answer *answer)
{
    box->mechanism->release(box->sandbox, &answer->reply.output);
    CHECK(answer->reply.output.data == NULL && answer->reply.output.length == 0);
}

/* ---- checking ---- */

static const char *describe(enum iso_status status, const struct iso_fault *fault)
{
    static char text[256];
    if (status == ISO_VIOLATION || status == ISO_SYSTEM_ERROR) {
        snprintf(text, sizeof(text), "status %d (violation %d, signal %d, exit %d, errno %d, %s)",
                 status, fault->violation, fault->signal, fault->exit_code, fault->system_errno,
                 fault->what != NULL ? fault->what : "");
    } else {
        snprintf(text, sizeof(text), "status %d", status);
    }
    return text;
}

void check_output(const char *file, int line, const struct box *box, struct answer answer,
                  const void *wanted, size_t length)
{
    if (answer.status != ISO_OK) {
        check_failed(file, line, "no answer: %s", describe(answer.status, &answer.reply.fault));
    }
    if (answer.reply.output.length != length ||
        (length != 0 && memcmp(answer.reply.output.data, wanted, length) != 0)) {
        check_failed(file, line, "not the answer: %zu bytes, not those %zu",
                     answer.reply.output.length, length);
    }
    release(box, &answer);
}

void check_number(const char *file, int line, const struct box *box, struct answer answer,
                  uint64_t wanted)
{
    if (answer.status == ISO_OK && answer.reply.output.length == sizeof(wanted)) {
        uint64_t number;
        memcpy(&number, answer.reply.output.data, sizeof(number));
        check_equal(file, line, "the answer", (long long)number, (long long)wanted);
    }
    check_output(file, line, box, answer, &wanted, sizeof(wanted));
}

void check_violation(const char *file, int line, struct answer answer, enum iso_violation kind,
                     int number, const char *what)
{
    const struct iso_fault *fault = &answer.reply.fault;
    bool right = answer.status == ISO_VIOLATION && fault->violation == kind &&
                 fault->signal == (kind == ISO_VIOLATION_SIGNAL ? number : 0) &&
                 fault->exit_code == (kind == ISO_VIOLATION_EXIT ? number : -1) &&
                 fault->system_errno == 0 && (what != NULL) == (fault->what != NULL) &&
                 (what == NULL || strstr(fault->what, what) != NULL);
    if (!right) {
        check_failed(file, line, "%s, not violation %d (%d%s%s)", describe(answer.status, fault),
                     kind, number, what != NULL ? ", " : "", what != NULL ? what : "");
    }
    if (answer.reply.output.data != NULL || answer.reply.output.length != 0) {
        check_failed(file, line, "a violation with output");
    }
}

void check_refused(const char *file, int line, struct answer answer, int error, const char *what)
{
    const struct iso_fault *fault = &answer.reply.fault;
    if (answer.status != ISO_SYSTEM_ERROR || fault->violation != ISO_VIOLATION_NONE ||
        fault->system_errno != error || strcmp(fault->what, what) != 0) {
        check_failed(file, line, "%s, not %s: %s", describe(answer.status, fault), what,
                     strerror(error));
    }
    if (answer.reply.output.data != NULL || answer.reply.output.length != 0) {
        check_failed(file, line, "an error with output");
    }
}

void check_works(const char *file, int line, const struct box *box)
{
    check_output(file, line, box, call(box, benign_reverse, "abc", 3), "cba", 3);
}

/* ---- within ---- */

int answer_pipe(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct stat status;
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && fstat(fd, &status) == 0 &&
            S_ISFIFO(status.st_mode) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) {
            return fd;
        }
    }
    return -1;
}
