/*
 * The timed loops in a program without Python: to show that the harness adds nothing to them, and
 * to count their instructions and system calls exactly. `isobench bounds` runs it.
 *
 *   standalone MECHANISM LIBRARY FUNCTION LOOPS BATCHES [FILE]
 *
 * prints the nanoseconds of each batch, a line each. FILE holds the function's input. If the first
 * call is a violation, all have to be, and what is timed is a call up to the caller's error.
 */
#include "isolation.h"

#include "allocator.h"
#include "violations.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: standalone direct|pipe|fork|floor|domain|domain-view|domain-serialised:CODEC|"
          "pkru-safe LIBRARY FUNCTION LOOPS BATCHES [FILE]\n",
          stderr);
    return 2;
}

/* By its name, behind which its codec may stand. */
static const struct iso_mechanism *find(const char *name, const char **codec)
{
    static const struct iso_mechanism *const all[] = {&iso_direct,
                                                      &iso_pipe,
                                                      &iso_fork,
                                                      &iso_floor,
                                                      &iso_domain,
                                                      &iso_domain_view,
                                                      &iso_domain_serialised,
                                                      &iso_pkru_safe};
    size_t length = strcspn(name, ":");
    *codec = name[length] == ':' ? name + length + 1 : NULL;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strlen(all[i]->name) == length && strncmp(all[i]->name, name, length) == 0) {
            return all[i];
        }
    }
    return NULL;
}

struct work {
    uint64_t loops;
    uint64_t batches;
    struct iso_request request;
};

static int measure(const struct iso_mechanism *mechanism, const struct iso_options *options,
                   const struct work *work)
{
    struct iso_fault fault;
    struct iso_sandbox *sandbox;
    if (mechanism->open(options, &sandbox, &fault) != ISO_OK) {
        fprintf(stderr, "standalone: %s: %s\n", fault.what, strerror(fault.system_errno));
        return 1;
    }
    struct iso_reply first;
    enum iso_status status = mechanism->call(sandbox, &work->request, &first);
    mechanism->release(sandbox, &first.output);
    enum iso_status wanted = status == ISO_VIOLATION ? ISO_VIOLATION : ISO_OK;
    for (uint64_t i = 0; i < work->batches && status == wanted; i++) {
        struct iso_batch batch = {.loops = work->loops};
        status = wanted == ISO_VIOLATION
                     ? iso_timed_violations(mechanism, sandbox, &work->request, &batch)
                     : mechanism->loop(sandbox, &work->request, &batch);
        mechanism->release(sandbox, &batch.last.output);
        if (status == wanted) {
            printf("%" PRIu64 "\n", batch.elapsed_ns);
        }
    }
    if (status != wanted) {
        fprintf(stderr, "standalone: a call ended with status %d instead of %d\n", (int)status,
                (int)wanted);
    }
    mechanism->close(sandbox);
    return status == wanted ? 0 : 1;
}

/* A function that this process loads itself. */
static int measure_loaded(const struct iso_mechanism *mechanism, const struct iso_symbol *name,
                          struct iso_options *options, const struct work *work)
{
    void *library = dlopen(name->library, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "standalone: %s\n", dlerror());
        return 1;
    }
    union { /* POSIX's way from an object pointer to a function pointer */
        void *object;
        iso_function *function;
    } symbol = {.object = dlsym(library, name->name)};
    int result = 1;
    if (symbol.object == NULL) {
        fprintf(stderr, "standalone: no function %s in %s\n", name->name, name->library);
    } else {
        options->functions = &symbol.function;
        result = measure(mechanism, options, work);
    }
    dlclose(library);
    return result;
}

/* A file's content in memory of its own. False with errno. */
static bool read_file(const char *path, uint8_t **data, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    long end = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    *length = end < 0 ? 0 : (size_t)end;
    *data = malloc(*length + 1);
    bool done = end >= 0 && *data != NULL && fseek(file, 0, SEEK_SET) == 0 &&
                fread(*data, 1, *length, file) == *length;
    fclose(file);
    return done;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        return usage();
    }
    const char *codec;
    const struct iso_mechanism *mechanism = find(argv[1], &codec);
    errno = 0;
    struct work work = {.loops = strtoull(argv[4], NULL, 10),
                        .batches = strtoull(argv[5], NULL, 10)};
    if (mechanism == NULL || errno != 0 || work.loops == 0 || work.batches == 0) {
        return usage();
    }
    uint8_t *input = NULL;
    if (argc == 7) {
        if (!read_file(argv[6], &input, &work.request.input_length)) {
            perror(argv[6]);
            return 1;
        }
        work.request.input = input;
    }
    if (!iso_keep_buffers_mapped()) { /* as the harness measures */
        fputs("standalone: the allocator has no such switch\n", stderr);
    }
    const struct iso_symbol name = {argv[2], argv[3]};
    struct iso_options options = {
        .symbols = &name,
        .function_count = 1,
        .codec = codec,
        .sandbox_cpu = -1,
        .respawn = true,
        .max_output_length = SIZE_MAX,
    };
    int result = mechanism->loads_libraries ? measure(mechanism, &options, &work)
                                            : measure_loaded(mechanism, &name, &options, &work);
    free(input);
    return result;
}
