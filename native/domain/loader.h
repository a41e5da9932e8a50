/*
 * Foreign libraries. Each domain has its own instances, in a linker namespace of their own
 * (dlmopen): a shared instance's data would be writable by the domain and trusted by the process.
 * The functions of substitutes.h are written into their global offset tables, and their writable
 * data become the domain's.
 *
 * Namespaces are few (glibc has 16, and the static thread-local storage that each takes is not
 * given back), so that a closed domain leaves its libraries, restored, to the next one that wants
 * the same.
 */
#ifndef DOMAIN_LOADER_H
#define DOMAIN_LOADER_H

#include "isolation.h"
#include "tracked.h"

#include <link.h>

/* The most objects (libraries and what they need) in one domain. */
#define OBJECT_MAX 64

struct libraries {
    Lmid_t namespace;
    void *base;             /* its C library, which stays */
    const uint8_t *trapped; /* in it, see pkey_set_trap() */
    char *key;              /* which files, in which order */
    void **handles;         /* one for each path asked for */
    size_t handle_count;
    struct link_map *objects[OBJECT_MAX]; /* all but the dynamic loader, which is shared */
    size_t object_count;
    struct tracked data[2 * OBJECT_MAX];
    size_t data_count;
    struct patch *patches;
    size_t patch_count;
    struct libraries *next; /* of those that nobody uses */
};

/* A loaded object's program headers. False: it has none in memory. */
struct headers {
    const ElfW(Phdr) * table;
    size_t count;
};
bool read_headers(struct link_map *object, struct headers *headers);

/*
 * Loads libraries by path or name, each once, in this order. NULL: *fault says why; its text is
 * valid until this thread's next call. `strict`: none of them may hold an instruction of gadgets.h,
 * nor anything else in their namespace.
 */
struct libraries *libraries_load(const char *const *paths, size_t count, bool strict,
                                 struct iso_fault *fault);

/* A symbol of the library that came `index`th. NULL: *fault, as above. */
void *libraries_symbol(const struct libraries *libraries, size_t index, const char *name,
                       struct iso_fault *fault);

/* Puts the libraries' data under a key. */
bool libraries_protect(struct libraries *libraries, int key);

/* Takes them out of their domain, restored, for the next one. False with errno: some of their data
 * have stayed under their key; call it again. */
bool libraries_give_back(struct libraries *libraries);

/* As they were when loaded, so that their destructors can run outside: before exit. */
void libraries_undo(struct libraries *libraries);
void libraries_undo_unused(void);

/* What fault.what of a failed open() points to: one for all, for it lies in static thread-local
 * storage, of which every namespace needs some. */
enum { LOADER_MESSAGE = 512 };
extern __thread char loader_message[LOADER_MESSAGE];

#endif
