#include "sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void sandbox_close(struct iso_sandbox *sandbox)
{
    if (sandbox != NULL) {
        if (sandbox->domain != NULL) {
            domain_close(sandbox->domain);
        }
        views_close(&sandbox->views);
        free(sandbox);
    }
}

/* Each library once, in the order of its first function. */
static size_t list_libraries(const struct iso_options *options, const char **paths, size_t *indices)
{
    size_t count = 0;
    for (size_t i = 0; i < options->function_count; i++) {
        size_t known = 0;
        while (known < count && strcmp(paths[known], options->symbols[i].library) != 0) {
            known++;
        }
        indices[i] = known;
        if (known == count) {
            paths[count++] = options->symbols[i].library;
        }
    }
    return count;
}

static enum iso_status fill(struct iso_sandbox *sandbox, const struct iso_options *options,
                            struct iso_fault *fault)
{
    size_t functions = options->function_count;
    const char **paths = calloc(functions + 1, sizeof(*paths));
    size_t *indices = calloc(functions + 1, sizeof(*indices));
    enum iso_status status = ISO_SYSTEM_ERROR;
    if (paths == NULL || indices == NULL) {
        *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = "calloc"};
    } else {
        size_t count = list_libraries(options, paths, indices);
        sandbox->domain = domain_open(paths, count, options, fault);
        status = sandbox->domain == NULL ? ISO_SYSTEM_ERROR : ISO_OK;
        if (status == ISO_OK && options->allow_syscalls) {
            sandbox->domain->audit = options->audit;
        }
        for (size_t i = 0; i < functions && status == ISO_OK; i++) {
            sandbox->functions[i] = libraries_symbol(sandbox->domain->libraries, indices[i],
                                                     options->symbols[i].name, fault);
            status = sandbox->functions[i] == NULL ? ISO_SYSTEM_ERROR : ISO_OK;
        }
    }
    free(paths);
    free(indices);
    return status;
}

enum iso_status sandbox_open(const struct iso_options *options, enum delivery delivery,
                             struct iso_sandbox **result, struct iso_fault *fault)
{
    *result = NULL;
    *fault = (struct iso_fault){.exit_code = -1};
    const struct codec *codec = NULL;
    if (delivery == SERIALISED) {
        codec = options->codec == NULL ? NULL : codec_find(options->codec);
        if (codec == NULL) {
            *fault = (struct iso_fault){
                .exit_code = -1, .system_errno = EINVAL, .what = "a codec of this name"};
            return ISO_SYSTEM_ERROR;
        }
    }
    struct iso_sandbox *sandbox =
        calloc(1, sizeof(*sandbox) + options->function_count * sizeof(sandbox->functions[0]));
    if (sandbox == NULL) {
        *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = "calloc"};
        return ISO_SYSTEM_ERROR;
    }
    sandbox->codec = codec;
    sandbox->delivery = delivery;
    sandbox->respawn = options->respawn;
    sandbox->max_output_length = options->max_output_length;
    sandbox->function_count = options->function_count;
    enum iso_status status = fill(sandbox, options, fault);
    if (status != ISO_OK) {
        sandbox_close(sandbox);
        return status;
    }
    *result = sandbox;
    return ISO_OK;
}

const void *sandbox_address(const struct iso_sandbox *sandbox, size_t function)
{
    return function < sandbox->function_count ? sandbox->functions[function] : NULL;
}
