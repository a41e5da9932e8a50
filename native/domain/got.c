#include "got.h"

#include "region.h"

#include <elf.h>
#include <sys/mman.h>

struct dynamic {
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Rela) * relocations[2]; /* of the procedure linkage table, and the others */
    size_t counts[2];
};

static void read_dynamic(struct dynamic *found, ElfW(Addr) base, const ElfW(Dyn) * entry)
{
    *found = (struct dynamic){0};
    for (; entry->d_tag != DT_NULL; entry++) {
        /* glibc relocates these pointers in place, but not in every object. */
        ElfW(Addr) pointer = entry->d_un.d_ptr;
        if (pointer < base) {
            pointer += base;
        }
        switch (entry->d_tag) {
        case DT_SYMTAB:
            found->symbols = (const ElfW(Sym) *)pointer;
            break;
        case DT_STRTAB:
            found->strings = (const char *)pointer;
            break;
        case DT_JMPREL:
            found->relocations[0] = (const ElfW(Rela) *)pointer;
            break;
        case DT_PLTRELSZ:
            found->counts[0] = entry->d_un.d_val / sizeof(ElfW(Rela));
            break;
        case DT_RELA:
            found->relocations[1] = (const ElfW(Rela) *)pointer;
            break;
        case DT_RELASZ:
            found->counts[1] = entry->d_un.d_val / sizeof(ElfW(Rela));
            break;
        default:
            break;
        }
    }
}

bool got_walk(ElfW(Addr) base, const ElfW(Dyn) * dynamic, got_visit *visit, void *context)
{
    struct dynamic found;
    read_dynamic(&found, base, dynamic);
    if (found.symbols == NULL || found.strings == NULL) {
        return true;
    }
    for (size_t table = 0; table < 2; table++) {
        const ElfW(Rela) *relocations = found.relocations[table];
        for (size_t i = 0; relocations != NULL && i < found.counts[table]; i++) {
            unsigned type = ELF64_R_TYPE(relocations[i].r_info);
            if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) {
                continue;
            }
            const ElfW(Sym) *symbol = &found.symbols[ELF64_R_SYM(relocations[i].r_info)];
            void **slot = (void **)(base + relocations[i].r_offset);
            if (!visit(context, found.strings + symbol->st_name, slot, type == R_X86_64_64)) {
                return false;
            }
        }
    }
    return true;
}

struct relro got_relro(ElfW(Addr) base, const ElfW(Phdr) * table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].p_type == PT_GNU_RELRO) {
            uintptr_t begin = base + table[i].p_vaddr;
            return (struct relro){begin & ~(PAGE - 1), (begin + table[i].p_memsz) & ~(PAGE - 1)};
        }
    }
    return (struct relro){0, 0};
}

bool got_write(void **slot, void *value, struct relro relro)
{
    void *page = (void *)((uintptr_t)slot & ~(PAGE - 1));
    bool read_only = (uintptr_t)slot >= relro.begin && (uintptr_t)slot < relro.end;
    if (read_only && mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    /* Another thread may be calling through it. */
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    return !read_only || mprotect(page, PAGE, PROT_READ) == 0;
}
