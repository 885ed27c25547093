/* Finds the subject that `verify` tests in this process: a shared object that the dynamic linker has mapped, from code
 * that may run before anything is relocated. What is mapped is read from /proc, the functions are looked up in the
 * object's own tables, and which copy is used where there are several follows from the dynamic linker's list of
 * objects: an audit library and what dlmopen() loads are in namespaces of their own, with a copy each. */
#ifndef RSM_SUBJECT_OBJECT_H
#define RSM_SUBJECT_OBJECT_H

#include <elf.h>
#include <link.h>

#include "libc_symbols.h"
#include "record.h"
#include "subject_functions.h"

#define RSM_COPIES_MAX 8

struct rsm_copies {
    uint64_t base[RSM_COPIES_MAX];
    uint32_t count;
};

/* Reads the address that a line of /proc/self/maps starts with if the line is about offset 0 of `path`; 0 if not. The
 * line is "start-end rights offset device inode   path". */
static inline uint64_t rsm_maps_line(const char *line, const char *path)
{
    uint64_t start = 0;
    int field = 0, begun = 0, zero = 1;
    for (; *line && *line != '-'; line++)
        start = start * 16 + (uint64_t)(*line <= '9' ? *line - '0' : *line - 'a' + 10);
    for (; *line && field < 5; line++) { /* to the blanks before the path */
        zero = zero && (field != 2 || *line == '0' || *line == ' ');
        field += *line == ' ';
    }
    while (*line == ' ') {
        line++;
        begun = 1;
    }
    while (*path && *line == *path) {
        line++;
        path++;
    }
    return begun && zero && !*path && !*line ? start : 0;
}

/* Collects where copies of the file `path` begin. */
static inline void rsm_copies_find(struct rsm_copies *copies, const char *path)
{
    static const char maps[] = "/proc/thread-self/maps";
    char line[RSM_SUBJECT_PATH_SIZE + 128], buffer[512];
    uint32_t length = 0;
    long size, fd = rsm_open(maps);
    copies->count = 0;
    while (fd >= 0 && (size = rsm_syscall(RSM_SYS_READ, fd, (long)buffer, sizeof(buffer), 0, 0, 0)) > 0) {
        for (long i = 0; i < size; i++) {
            if (buffer[i] != '\n') {
                line[length] = buffer[i];
                length += length < sizeof(line) - 1;
                continue;
            }
            line[length] = 0;
            length = 0;
            uint64_t base = rsm_maps_line(line, path);
            if (base && copies->count < RSM_COPIES_MAX)
                copies->base[copies->count++] = base;
        }
    }
    if (fd >= 0)
        rsm_syscall(RSM_SYS_CLOSE, fd, 0, 0, 0, 0, 0);
}

static inline int rsm_object_tables(struct rsm_dynamic_tables *tables, uint64_t base, const Elf64_Dyn **dynamic)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(base + header->e_phoff);
    *dynamic = 0;
    for (int i = 0; i < header->e_phnum; i++)
        if (segment[i].p_type == PT_DYNAMIC)
            *dynamic = (const Elf64_Dyn *)(base + segment[i].p_vaddr);
    if (*dynamic)
        rsm_dynamic_tables_read(tables, base, *dynamic);
    return *dynamic != 0;
}

/* The list of objects of the namespace that the program is in, as debuggers read it (link.h); null before there is one.
 */
static inline const struct r_debug *rsm_debugger_list(void)
{
    struct rsm_dynamic_tables tables = {0};
    const Elf64_Dyn *dynamic;
    uint64_t loader = rsm_loader_base();
    if (!loader || !rsm_object_tables(&tables, loader, &dynamic))
        return 0;
    return rsm_dynamic_symbol(&tables, "_r_debug");
}

static inline int rsm_in_base_namespace(uint64_t base)
{
    const struct r_debug *debug = rsm_debugger_list();
    for (const struct link_map *map = debug ? debug->r_map : 0; map; map = map->l_next)
        if (map->l_addr == base)
            return 1;
    return 0;
}

/* The copy in the namespace of the code that asks; 0 where there is none. */
static inline uint64_t rsm_copies_choose(const struct rsm_copies *copies)
{
    if (copies->count < 2)
        return copies->count ? copies->base[0] : 0;
    int own = rsm_in_base_namespace((uint64_t)rsm_own_base);
    for (uint32_t i = 0; i < copies->count; i++)
        if (rsm_in_base_namespace(copies->base[i]) == own)
            return copies->base[i];
    return 0;
}

/* Returns 1 where the relocations of an object are done, 0 where not, 2 where it has none that tells: the first
 * relative one of its table is looked at. */
static inline uint32_t rsm_object_relocated(uint64_t base, const Elf64_Dyn *dynamic)
{
    const Elf64_Rela *relocation = 0;
    uint64_t count = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_RELA)
            relocation = rsm_dynamic_pointer(base, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_RELASZ)
            count = dynamic->d_un.d_val / sizeof(*relocation);
    }
    for (; relocation && count; count--, relocation++)
        if (ELF64_R_TYPE(relocation->r_info) == RSM_RELATIVE)
            return *(const uint64_t *)(base + relocation->r_offset) == base + (uint64_t)relocation->r_addend;
    return 2;
}

static inline void rsm_subject_find(struct rsm_log *log, struct rsm_trial *trial,
                                    struct rsm_subject_functions *functions)
{
    struct rsm_copies copies;
    struct rsm_dynamic_tables tables = {0};
    const Elf64_Dyn *dynamic;
    rsm_copies_find(&copies, log->subject_path);
    trial->copies = copies.count;
    trial->base = rsm_copies_choose(&copies);
    if (!trial->base || !rsm_object_tables(&tables, trial->base, &dynamic))
        return;
    trial->relocated = rsm_object_relocated(trial->base, dynamic);
    *(const void **)&functions->add = rsm_dynamic_symbol(&tables, "rsm_subject_add");
    *(const void **)&functions->sum = rsm_dynamic_symbol(&tables, "rsm_subject_sum");
    *(const void **)&functions->path = rsm_dynamic_symbol(&tables, "rsm_subject_path");
    *(const void **)&functions->aborts = rsm_dynamic_symbol(&tables, "rsm_subject_aborts");
}

#endif
