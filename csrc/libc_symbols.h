/* Where libc keeps __rseq_offset, __rseq_size and __rseq_flags (glibc 2.35, commit c901c3e764d7).
 *
 * A library would name these symbols and let the dynamic linker fill its GOT. Early code cannot: its own relocations
 * may not be done. So in a dynamic process the symbols are looked up in the tables of the dynamic linker that the
 * kernel mapped (AT_BASE), which has relocated itself before any other code runs and is one for all namespaces. A
 * static program names them. */
#ifndef RSM_LIBC_SYMBOLS_H
#define RSM_LIBC_SYMBOLS_H

#include <elf.h>

#include "auxiliary_vector.h"

#define RSM_BUILD_ID_LENGTH 20 /* of a SHA-1, as linkers make it */

struct rsm_libc_symbols { /* null: this libc has none */
    const int64_t *rseq_offset;
    const uint32_t *rseq_size;
    const uint32_t *rseq_flags;
    uint32_t has_build_id;
    uint8_t build_id[RSM_BUILD_ID_LENGTH]; /* of the dynamic linker */
};

#ifdef RSM_STATIC

extern const int64_t rsm_weak_rseq_offset __asm__("__rseq_offset") __attribute__((weak));
extern const uint32_t rsm_weak_rseq_size __asm__("__rseq_size") __attribute__((weak));
extern const uint32_t rsm_weak_rseq_flags __asm__("__rseq_flags") __attribute__((weak));

static inline void rsm_libc_symbols_find(struct rsm_libc_symbols *symbols)
{
    symbols->rseq_offset = &rsm_weak_rseq_offset;
    symbols->rseq_size = &rsm_weak_rseq_size;
    symbols->rseq_flags = &rsm_weak_rseq_flags;
    symbols->has_build_id = 0;
}

#else

struct rsm_dynamic_tables { /* of one mapped object; gABI chapter 5 and the GNU hash extension */
    uint64_t base;
    const Elf64_Sym *symbol;
    const char *string;
    const uint32_t *gnu_hash;
};

static inline int rsm_string_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* A d_ptr: glibc adds the load address in place while it relocates itself and others, musl does not, and in the vDSO
 * it is never added. The vDSO of gVisor is linked to the kernel's half of the addresses, and its load address wraps
 * around. */
static inline const void *rsm_dynamic_pointer(uint64_t base, uint64_t value)
{
    return (const void *)(value < base || value >> 63 ? base + value : value);
}

static inline void rsm_dynamic_tables_read(struct rsm_dynamic_tables *tables, uint64_t base, const Elf64_Dyn *dynamic)
{
    tables->base = base;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        const void *pointer = rsm_dynamic_pointer(base, dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_SYMTAB)
            tables->symbol = pointer;
        else if (dynamic->d_tag == DT_STRTAB)
            tables->string = pointer;
        else if (dynamic->d_tag == DT_GNU_HASH)
            tables->gnu_hash = pointer;
    }
}

/* Looks `name` up in the GNU hash table; null if it is not defined there. */
static inline const void *rsm_dynamic_symbol(const struct rsm_dynamic_tables *tables, const char *name)
{
    uint32_t hash = 5381;
    for (const char *c = name; *c; c++)
        hash = hash * 33 + (uint8_t)*c;
    if (!tables->gnu_hash || !tables->symbol || !tables->string || !tables->gnu_hash[0])
        return 0;
    uint32_t bucket_count = tables->gnu_hash[0], first = tables->gnu_hash[1], bloom_words = tables->gnu_hash[2];
    const uint32_t *bucket = tables->gnu_hash + 4 + 2 * bloom_words;
    const uint32_t *chain = bucket + bucket_count;
    uint32_t index = bucket[hash % bucket_count];
    if (index < first)
        return 0;
    for (;; index++) {
        uint32_t entry = chain[index - first];
        const Elf64_Sym *symbol = &tables->symbol[index];
        if ((entry | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF &&
            rsm_string_equal(tables->string + symbol->st_name, name))
            return (const void *)(tables->base + symbol->st_value);
        if (entry & 1)
            return 0;
    }
}

static inline void rsm_build_id_read(struct rsm_libc_symbols *symbols, const uint8_t *note, const uint8_t *end)
{
    while (note + sizeof(Elf64_Nhdr) <= end) {
        const Elf64_Nhdr *header = (const Elf64_Nhdr *)note;
        const uint8_t *description = note + sizeof(*header) + ((header->n_namesz + 3) & ~3u);
        if (header->n_type == NT_GNU_BUILD_ID && header->n_descsz == RSM_BUILD_ID_LENGTH) {
            for (int i = 0; i < RSM_BUILD_ID_LENGTH; i++)
                symbols->build_id[i] = description[i];
            symbols->has_build_id = 1;
            return;
        }
        note = description + ((header->n_descsz + 3) & ~3u);
    }
}

/* Where the dynamic linker is mapped; 0 where that is not known. */
static inline uint64_t rsm_loader_base(void)
{
    struct rsm_auxiliary_vector vector;
    rsm_auxiliary_vector_read(&vector);
    uint64_t base = rsm_auxiliary_vector_value(&vector, RSM_AT_BASE);
    if (!base) /* it was started by name: it is the program, and its headers lie in its first page */
        base = rsm_auxiliary_vector_value(&vector, RSM_AT_PHDR) & ~4095ul;
    return base;
}

static inline void rsm_libc_symbols_find(struct rsm_libc_symbols *symbols)
{
    struct rsm_dynamic_tables tables = {0};
    uint64_t base = rsm_loader_base();
    symbols->rseq_offset = 0;
    symbols->rseq_size = 0;
    symbols->rseq_flags = 0;
    symbols->has_build_id = 0;
    if (!base)
        return;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(base + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        const uint8_t *start = (const uint8_t *)(base + segment[i].p_vaddr);
        if (segment[i].p_type == PT_DYNAMIC)
            rsm_dynamic_tables_read(&tables, base, (const Elf64_Dyn *)start);
        else if (segment[i].p_type == PT_NOTE && !symbols->has_build_id)
            rsm_build_id_read(symbols, start, start + segment[i].p_memsz);
    }
    symbols->rseq_offset = rsm_dynamic_symbol(&tables, "__rseq_offset");
    symbols->rseq_size = rsm_dynamic_symbol(&tables, "__rseq_size");
    symbols->rseq_flags = rsm_dynamic_symbol(&tables, "__rseq_flags");
}

#endif
#endif
