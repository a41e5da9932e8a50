/*
 * The timed loops in a program without Python: to show that the harness adds nothing to them, and
 * to count their instructions and system calls exactly. `isobench bounds` runs it.
 *
 *   standalone MECHANISM LIBRARY FUNCTION LOOPS BATCHES
 *
 * prints the nanoseconds of each batch, a line each.
 */
#include "isolation.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: standalone direct|pipe|fork|floor|domain|domain-view LIBRARY FUNCTION LOOPS "
          "BATCHES\n",
          stderr);
    return 2;
}

static const struct iso_mechanism *find(const char *name)
{
    static const struct iso_mechanism *const all[] = {&iso_direct, &iso_pipe,   &iso_fork,
                                                      &iso_floor,  &iso_domain, &iso_domain_view};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}

static int measure(const struct iso_mechanism *mechanism, const struct iso_options *options,
                   uint64_t loops, uint64_t batches)
{
    struct iso_fault fault;
    struct iso_sandbox *sandbox;
    if (mechanism->open(options, &sandbox, &fault) != ISO_OK) {
        fprintf(stderr, "standalone: %s: %s\n", fault.what, strerror(fault.system_errno));
        return 1;
    }
    enum iso_status status = ISO_OK;
    for (uint64_t i = 0; i < batches && status == ISO_OK; i++) {
        struct iso_request request = {.function = 0};
        struct iso_batch batch = {.loops = loops};
        status = mechanism->loop(sandbox, &request, &batch);
        mechanism->release(sandbox, &batch.last.output);
        if (status == ISO_OK) {
            printf("%" PRIu64 "\n", batch.elapsed_ns);
        } else {
            fprintf(stderr, "standalone: a call failed with status %d\n", (int)status);
        }
    }
    mechanism->close(sandbox);
    return status == ISO_OK ? 0 : 1;
}

/* A function that this process loads itself. */
static int measure_loaded(const struct iso_mechanism *mechanism, const struct iso_symbol *name,
                          struct iso_options *options, uint64_t loops, uint64_t batches)
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
        result = measure(mechanism, options, loops, batches);
    }
    dlclose(library);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        return usage();
    }
    const struct iso_mechanism *mechanism = find(argv[1]);
    errno = 0;
    uint64_t loops = strtoull(argv[4], NULL, 10);
    uint64_t batches = strtoull(argv[5], NULL, 10);
    if (mechanism == NULL || errno != 0 || loops == 0 || batches == 0) {
        return usage();
    }
    const struct iso_symbol name = {argv[2], argv[3]};
    struct iso_options options = {
        .symbols = &name,
        .function_count = 1,
        .sandbox_cpu = -1,
        .max_output_length = SIZE_MAX,
    };
    return mechanism->loads_libraries ? measure(mechanism, &options, loops, batches)
                                      : measure_loaded(mechanism, &name, &options, loops, batches);
}
