#include "loader.h"

#include "gadgets.h"
#include "got.h"
#include "region.h"
#include "substitutes.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct patch {
    void **slot;
    void *original;
};

/* Libraries that were loaded once and belong to no domain now. The runtime's lock is held. */
static struct libraries *unused;
static size_t unused_count;

/* So many wait with their libraries loaded; more namespaces than that plus the open domains are
 * never made. */
enum { UNUSED_MAX = 4 };

#define LIBC_SO "libc.so.6"

__thread char loader_message[LOADER_MESSAGE];

static void *failed(struct iso_fault *fault, int error, const char *format, const char *subject)
{
    const char *reason = dlerror();
    snprintf(loader_message, sizeof(loader_message), format, subject,
             reason == NULL ? "unknown reason" : reason);
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = error, .what = loader_message};
    return NULL;
}

static void *refused(struct iso_fault *fault, const char *what)
{
    *fault = (struct iso_fault){.exit_code = -1, .system_errno = errno, .what = what};
    return NULL;
}

/* ---- reading what the dynamic loader mapped ---- */

bool read_headers(struct link_map *object, struct headers *headers)
{
#ifdef RTLD_DI_PHDR /* glibc 2.36 */
    const ElfW(Phdr) *table = NULL;
    int count = dlinfo(object, RTLD_DI_PHDR, &table);
    if (count > 0) {
        *headers = (struct headers){table, (size_t)count};
        return true;
    }
#endif
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)object->l_addr;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
        return false;
    }
    *headers =
        (struct headers){(const ElfW(Phdr) *)(object->l_addr + header->e_phoff), header->e_phnum};
    return true;
}

/* ---- patching ---- */

struct patching {
    struct libraries *libraries;
    struct relro relro;
};

static bool patch(void *context, const char *name, void **slot, bool is_data)
{
    (void)is_data; /* nothing but constructors has run that could have changed it */
    const struct patching *patching = context;
    struct libraries *libraries = patching->libraries;
    void *substitute = substitute_for(name);
    if (substitute == NULL) {
        return true;
    }
    struct patch *more =
        realloc(libraries->patches, (libraries->patch_count + 1) * sizeof(*libraries->patches));
    if (more == NULL) {
        return false;
    }
    libraries->patches = more;
    more[libraries->patch_count++] = (struct patch){slot, *slot};
    return got_write(slot, substitute, patching->relro);
}

static void unpatch(struct libraries *libraries)
{
    for (size_t i = libraries->patch_count; i-- > 0;) {
        const struct patch *done = &libraries->patches[i];
        void *page = (void *)((uintptr_t)done->slot & ~(PAGE - 1));
        /* Writable for good: only destructors follow. */
        if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0) {
            *done->slot = done->original;
        }
    }
    libraries->patch_count = 0;
}

/* ---- data ---- */

static bool track(struct libraries *libraries, uintptr_t begin, uintptr_t end)
{
    if (begin >= end) {
        return true;
    }
    if (libraries->data_count == sizeof(libraries->data) / sizeof(libraries->data[0])) {
        errno = E2BIG;
        return false;
    }
    if (!tracked_open(&libraries->data[libraries->data_count], (void *)begin, end - begin)) {
        return false;
    }
    libraries->data_count++;
    return true;
}

/* The writable segments, less what is read-only after relocation. */
static bool track_data(struct libraries *libraries, struct link_map *object, struct headers headers,
                       struct relro relro)
{
    for (size_t i = 0; i < headers.count; i++) {
        const ElfW(Phdr) *header = &headers.table[i];
        if (header->p_type != PT_LOAD || (header->p_flags & PF_W) == 0) {
            continue;
        }
        uintptr_t begin = object->l_addr + header->p_vaddr;
        uintptr_t end = (begin + header->p_memsz + PAGE - 1) & ~(PAGE - 1);
        begin &= ~(PAGE - 1);
        if (relro.begin < relro.end && relro.begin < end && relro.end > begin) {
            if (!track(libraries, begin, relro.begin) || !track(libraries, relro.end, end)) {
                return false;
            }
        } else if (!track(libraries, begin, end)) {
            return false;
        }
    }
    return true;
}

/* ---- loading ---- */

static bool adopt_objects(struct libraries *libraries, struct iso_fault *fault)
{
    /* AT_BASE is 0 where the program was started by calling the dynamic loader. */
    Dl_info loader;
    if (dladdr(dlsym(RTLD_DEFAULT, "_r_debug"), &loader) == 0) {
        errno = ENOENT;
        return refused(fault, "dladdr");
    }
    struct link_map *object = libraries->base;
    while (object->l_prev != NULL) {
        object = object->l_prev;
    }
    for (; object != NULL; object = object->l_next) {
        /* The dynamic loader itself is one for all namespaces, and so is the vDSO. */
        if (object->l_addr == (ElfW(Addr))loader.dli_fbase ||
            object->l_addr == getauxval(AT_SYSINFO_EHDR)) {
            continue;
        }
        if (libraries->object_count == OBJECT_MAX) {
            errno = E2BIG;
            return refused(fault, "a library that needs more than 64 others");
        }
        libraries->objects[libraries->object_count++] = object;
    }
    for (size_t i = 0; i < libraries->object_count; i++) {
        struct headers headers;
        object = libraries->objects[i];
        if (!read_headers(object, &headers)) {
            errno = ENOEXEC;
            return refused(fault, "a library without ELF headers in memory");
        }
        struct relro relro = got_relro(object->l_addr, headers.table, headers.count);
        struct patching patching = {libraries, relro};
        if (!got_walk(object->l_addr, object->l_ld, patch, &patching)) {
            return refused(fault, "patching a library's global offset table");
        }
        /* After patching, so that the image has the substitutes, too. */
        if (!track_data(libraries, object, headers, relro)) {
            return refused(fault, "keeping a copy of a library's data");
        }
    }
    return true;
}

/* Leaves the namespace with its C library alone. */
static void strip(struct libraries *libraries)
{
    libraries_undo(libraries);
    while (libraries->handle_count > 0) {
        dlclose(libraries->handles[--libraries->handle_count]);
    }
    while (libraries->data_count > 0) {
        tracked_close(&libraries->data[--libraries->data_count]);
    }
    libraries->object_count = 0;
    free(libraries->patches);
    free(libraries->handles);
    free(libraries->key);
    libraries->patches = NULL;
    libraries->handles = NULL;
    libraries->key = NULL;
}

static void put_away(struct libraries *libraries)
{
    libraries->next = unused;
    unused = libraries;
    unused_count++;
}

/* Unlinks what a link leads to. */
static struct libraries *take(struct libraries **link)
{
    struct libraries *taken = *link;
    *link = taken->next;
    unused_count--;
    return taken;
}

/* What has waited longest, stripped; NULL: none. */
static struct libraries *reuse_oldest(void)
{
    struct libraries **link = &unused;
    if (*link == NULL) {
        return NULL;
    }
    while ((*link)->next != NULL) {
        link = &(*link)->next;
    }
    struct libraries *oldest = take(link);
    strip(oldest);
    return oldest;
}

/* Which files these are, and whether they were searched: a library that was replaced on disk is
 * another. */
static char *identify(const char *const *paths, size_t count, bool strict)
{
    char *key = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&key, &length);
    if (stream == NULL) {
        return NULL;
    }
    bool told = fprintf(stream, "%s\n", strict ? "strict" : "") > 0;
    for (size_t i = 0; i < count; i++) {
        struct stat status = {0};
        if (strchr(paths[i], '/') != NULL && stat(paths[i], &status) != 0) {
            status.st_ino = 0; /* dlmopen will say what is wrong with it */
        }
        told = fprintf(stream, "%s:%lu:%lu:%ld.%ld\n", paths[i], (unsigned long)status.st_dev,
                       (unsigned long)status.st_ino, (long)status.st_mtim.tv_sec,
                       (long)status.st_mtim.tv_nsec) > 0 &&
               told;
    }
    if (fclose(stream) != 0 || !told) {
        free(key);
        return NULL;
    }
    return key;
}

static struct libraries *find_unused(const char *key)
{
    for (struct libraries **link = &unused; *link != NULL; link = &(*link)->next) {
        if ((*link)->key != NULL && strcmp((*link)->key, key) == 0) {
            return take(link);
        }
    }
    return NULL;
}

/* A namespace with a C library and nothing else in it: one that libraries could not be loaded into,
 * or a new one. */
static struct libraries *open_namespace(struct iso_fault *fault)
{
    for (struct libraries **link = &unused; *link != NULL; link = &(*link)->next) {
        if ((*link)->key == NULL) {
            return take(link);
        }
    }
    if (unused_count >= UNUSED_MAX) {
        return reuse_oldest();
    }
    struct libraries *libraries = calloc(1, sizeof(*libraries));
    if (libraries == NULL) {
        return refused(fault, "calloc");
    }
    void *base = dlmopen(LM_ID_NEWLM, LIBC_SO, RTLD_NOW | RTLD_LOCAL);
    if (base != NULL && dlinfo(base, RTLD_DI_LMID, &libraries->namespace) == 0) {
        libraries->base = base;
        return libraries;
    }
    if (base != NULL) {
        dlclose(base);
    }
    free(libraries);
    failed(fault, EAGAIN,
           "no room for one more instance of the C library (%s: %s). Close a sandbox, or start the "
           "program with GLIBC_TUNABLES=glibc.rtld.nns=16",
           LIBC_SO);
    return reuse_oldest();
}

static bool open_all(struct libraries *libraries, const char *const *paths, size_t count,
                     struct iso_fault *fault)
{
    libraries->handles = calloc(count + 1, sizeof(void *));
    if (libraries->handles == NULL) {
        return refused(fault, "calloc");
    }
    for (size_t i = 0; i < count; i++) {
        void *handle = dlmopen(libraries->namespace, paths[i], RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL) {
            return failed(fault, ELIBACC, "cannot load %s: %s", paths[i]);
        }
        libraries->handles[libraries->handle_count++] = handle;
    }
    return adopt_objects(libraries, fault);
}

/* Constructors have run by the end of it, as a part of the process that nothing confines: what one
 * of them did to the code is searched, and what else it did, no wall undoes. */
static bool fill(struct libraries *libraries, const char *const *paths, size_t count, bool strict,
                 struct iso_fault *fault)
{
    return pkey_set_trap(libraries->base, strict, &libraries->trapped, fault) &&
           open_all(libraries, paths, count, fault) &&
           (!strict || gadgets_are_absent(libraries->objects, libraries->object_count, fault));
}

struct libraries *libraries_load(const char *const *paths, size_t count, bool strict,
                                 struct iso_fault *fault)
{
    char *key = identify(paths, count, strict);
    if (key == NULL) {
        return refused(fault, "open_memstream");
    }
    struct libraries *libraries = find_unused(key);
    if (libraries != NULL) {
        free(key);
        return libraries;
    }
    libraries = open_namespace(fault);
    if (libraries == NULL) {
        free(key);
        return NULL;
    }
    libraries->key = key;
    if (!fill(libraries, paths, count, strict, fault)) {
        strip(libraries);
        put_away(libraries);
        return NULL;
    }
    return libraries;
}

void *libraries_symbol(const struct libraries *libraries, size_t index, const char *name,
                       struct iso_fault *fault)
{
    void *symbol = dlsym(libraries->handles[index], name);
    return symbol != NULL ? symbol : failed(fault, ELIBBAD, "no function %s: %s", name);
}

bool libraries_protect(struct libraries *libraries, int key)
{
    for (size_t i = 0; i < libraries->data_count; i++) {
        if (!tracked_protect(&libraries->data[i], key)) {
            return false;
        }
    }
    return true;
}

/* False: some of it has stayed under its key. */
static bool restore(struct libraries *libraries)
{
    bool restored = true;
    for (size_t i = 0; i < libraries->data_count; i++) {
        restored = tracked_release(&libraries->data[i]) && restored;
    }
    return restored;
}

bool libraries_give_back(struct libraries *libraries)
{
    if (!restore(libraries)) {
        return false;
    }
    put_away(libraries);
    return true;
}

void libraries_undo(struct libraries *libraries)
{
    restore(libraries);
    unpatch(libraries);
}

void libraries_undo_unused(void)
{
    for (struct libraries *each = unused; each != NULL; each = each->next) {
        libraries_undo(each);
    }
}
