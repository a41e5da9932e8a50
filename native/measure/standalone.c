/*
 * The baseline's timed loop in a program without Python, to show that the harness adds nothing to
 * it: `isobench bounds native-loop` runs both and compares.
 *
 *   standalone LIBRARY FUNCTION LOOPS BATCHES
 *
 * prints the nanoseconds of each batch, a line each.
 */
#include "isolation.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int usage(void)
{
    fputs("usage: standalone LIBRARY FUNCTION LOOPS BATCHES\n", stderr);
    return 2;
}

static int measure(iso_function *function, uint64_t loops, uint64_t batches)
{
    struct iso_options options = {.functions = &function, .function_count = 1, .sandbox_cpu = -1};
    struct iso_fault fault;
    struct iso_sandbox *sandbox;
    if (iso_direct.open(&options, &sandbox, &fault) != ISO_OK) {
        fprintf(stderr, "standalone: %s failed\n", fault.what);
        return 1;
    }
    enum iso_status status = ISO_OK;
    for (uint64_t i = 0; i < batches && status == ISO_OK; i++) {
        struct iso_request request = {.function = 0};
        struct iso_batch batch = {.loops = loops};
        status = iso_direct.loop(sandbox, &request, &batch);
        iso_direct.release(sandbox, &batch.last.output);
        printf("%" PRIu64 "\n", batch.elapsed_ns);
    }
    iso_direct.close(sandbox);
    return status == ISO_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        return usage();
    }
    errno = 0;
    uint64_t loops = strtoull(argv[3], NULL, 10);
    uint64_t batches = strtoull(argv[4], NULL, 10);
    if (errno != 0 || loops == 0 || batches == 0) {
        return usage();
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "standalone: %s\n", dlerror());
        return 1;
    }
    union { /* POSIX's way from an object pointer to a function pointer */
        void *object;
        iso_function *function;
    } symbol = {.object = dlsym(library, argv[2])};
    int result = 1;
    if (symbol.object == NULL) {
        fprintf(stderr, "standalone: no function %s in %s\n", argv[2], argv[1]);
    } else {
        result = measure(symbol.function, loops, batches);
    }
    dlclose(library);
    return result;
}
