#include "tls.h"

#include "region.h"

#include <dlfcn.h>
#include <errno.h>
#include <immintrin.h>
#include <string.h>

/* glibc's dtv: element -1 holds the length, element 0 the generation, element N module N's block.
 */
struct dtv_entry {
    uintptr_t block;
    uintptr_t to_free;
};

struct tls_index {
    unsigned long module;
    unsigned long offset;
};

extern void *__tls_get_addr(struct tls_index *index);

/* x86-64's layout: static blocks below FS base, the thread control block (struct pthread) from it
 * on. */
struct layout {
    size_t below; /* bytes */
    size_t above;
};

/* From what glibc keeps for debuggers and for its own use. */
static bool find_layout(struct layout *layout)
{
    union {
        void *object;
        void (*function)(size_t *, size_t *);
    } static_info = {.object = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info")};
    const uint32_t *pthread_size = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
    if (static_info.object == NULL || pthread_size == NULL) {
        return false;
    }
    size_t size = 0, alignment = 0;
    static_info.function(&size, &alignment); /* both parts */
    if (size <= *pthread_size) {
        return false;
    }
    *layout = (struct layout){.below = size - *pthread_size, .above = *pthread_size};
    return true;
}

static size_t round_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

/* The number of an object's block; 0: it has none. */
static bool find_module(struct link_map *object, size_t *module)
{
    *module = 0;
    if (dlinfo(object, RTLD_DI_TLS_MODID, module) != 0) {
        errno = ENOEXEC;
        return false;
    }
    return true;
}

static size_t tls_memory_size(struct link_map *object, size_t *alignment)
{
    struct headers headers;
    if (!read_headers(object, &headers)) {
        return 0;
    }
    for (size_t i = 0; i < headers.count; i++) {
        if (headers.table[i].p_type == PT_TLS) {
            *alignment = headers.table[i].p_align > 0 ? headers.table[i].p_align : 1;
            return headers.table[i].p_memsz;
        }
    }
    return 0;
}

bool tls_copy(const struct libraries *libraries, uint8_t *memory, size_t size, uint64_t *fs,
              size_t *used)
{
    *fs = 0;
    *used = 0;
    struct layout layout;
    if (!find_layout(&layout)) {
        return true;
    }
    /* This thread's blocks of the new libraries come to be when asked for. */
    for (size_t i = 0; i < libraries->object_count; i++) {
        size_t module;
        if (!find_module(libraries->objects[i], &module)) {
            return false;
        }
        if (module != 0) {
            __tls_get_addr(&(struct tls_index){module, 0});
        }
    }
    uintptr_t here = _readfsbase_u64();
    struct dtv_entry *dtv;
    memcpy(&dtv, (void *)(here + sizeof(void *)), sizeof(dtv));
    size_t entries = dtv[-1].block + 2;

    uint8_t *end = memory + size;
    struct dtv_entry *new_dtv = (struct dtv_entry *)memory + 1;
    uint8_t *next = memory + round_up(entries * sizeof(*dtv), 64);
    if (next > end) {
        errno = ENOMEM;
        return false;
    }
    memcpy(new_dtv - 1, dtv - 1, entries * sizeof(*dtv));

    uint8_t *block = next;
    uint8_t *new_here = block + round_up(layout.below, 64);
    next = new_here + round_up(layout.above, 64);
    if (next > end) {
        errno = ENOMEM;
        return false;
    }
    memcpy(new_here - layout.below, (void *)(here - layout.below), layout.below + layout.above);
    /* The control block points to itself in places: the self pointers, empty lists. */
    for (size_t i = 0; i + sizeof(uintptr_t) <= layout.above; i += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, new_here + i, sizeof(word));
        if (word >= here && word < here + layout.above) {
            word += (uintptr_t)new_here - here;
            memcpy(new_here + i, &word, sizeof(word));
        }
    }
    memcpy(new_here + sizeof(void *), &new_dtv, sizeof(new_dtv));
    for (size_t i = 1; i < entries - 1; i++) {
        if (new_dtv[i].block >= here - layout.below && new_dtv[i].block < here) {
            new_dtv[i].block += (uintptr_t)new_here - here;
        }
    }
    /* Blocks that are elsewhere: copies of the domain's own libraries', the process's stay. */
    for (size_t i = 0; i < libraries->object_count; i++) {
        size_t module, alignment = 1;
        if (!find_module(libraries->objects[i], &module)) {
            return false;
        }
        if (module == 0 || module >= entries - 1 || new_dtv[module].block != dtv[module].block) {
            continue;
        }
        size_t length = tls_memory_size(libraries->objects[i], &alignment);
        next = (uint8_t *)round_up((uintptr_t)next, alignment);
        if (next + length > end) {
            errno = ENOMEM;
            return false;
        }
        memcpy(next, (void *)dtv[module].block, length);
        new_dtv[module].block = (uintptr_t)next;
        next += length;
    }
    *fs = (uintptr_t)new_here;
    *used = round_up((size_t)(next - memory), PAGE);
    return true;
}
