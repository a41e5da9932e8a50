/* Global offset tables: where a loaded object keeps the addresses of what it calls elsewhere. */
#ifndef DOMAIN_GOT_H
#define DOMAIN_GOT_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>

/* A slot for a symbol of this name; `is_data`: a pointer in the object's data, which the program
 * may have changed. False ends the walk. */
typedef bool got_visit(void *context, const char *name, void **slot, bool is_data);

/* Visits the slots of a loaded object. False: a visit said so. */
bool got_walk(ElfW(Addr) base, const ElfW(Dyn) * dynamic, got_visit *visit, void *context);

/* What the dynamic loader made read-only after relocation, in whole pages; empty: begin == end. */
struct relro {
    uintptr_t begin, end;
};
struct relro got_relro(ElfW(Addr) base, const ElfW(Phdr) * table, size_t count);

/* Writes a slot, and leaves its page as it was. False with errno. */
bool got_write(void **slot, void *value, struct relro relro);

#endif
