/* Interposes vfork() and clone(), which change what protection.h keeps: their child runs with this thread's TLS. The
 * object that has them must be before libc in the order in which the program's symbols are looked up; the dynamic
 * linker's list says whether it is. */
#ifndef RSM_SUBJECT_INTERPOSED_H
#define RSM_SUBJECT_INTERPOSED_H

#include <errno.h>
#include <link.h>

#include "subject_object.h"
#include "visible.h"

/* Whether an object defines `name`, by its older hash table: programs may have only that (gABI, Hash Table). */
static inline int rsm_defines_by_old_table(const struct link_map *map, const struct rsm_dynamic_tables *tables,
                                           const char *name)
{
    const uint32_t *hash = 0; /* the counts of buckets and of chains; of these there are as many as of symbols */
    for (const Elf64_Dyn *dynamic = map->l_ld; dynamic->d_tag != DT_NULL; dynamic++)
        if (dynamic->d_tag == DT_HASH)
            hash = rsm_dynamic_pointer(map->l_addr, dynamic->d_un.d_ptr);
    for (uint32_t i = 1; hash && i < hash[1]; i++)
        if (tables->symbol[i].st_shndx != SHN_UNDEF &&
            rsm_string_equal(tables->string + tables->symbol[i].st_name, name))
            return 1;
    return 0;
}

static inline int rsm_makes_children(const struct link_map *map)
{
    static const char names[4][8] = {"vfork", "__vfork", "clone", "__clone"}; /* no pointers: they need relocation */
    struct rsm_dynamic_tables tables = {0};
    rsm_dynamic_tables_read(&tables, map->l_addr, map->l_ld);
    for (int i = 0; i < 4; i++)
        if (tables.gnu_hash ? rsm_dynamic_symbol(&tables, names[i]) != 0
                            : rsm_defines_by_old_table(map, &tables, names[i]))
            return 1;
    return 0;
}

extern const Elf64_Dyn rsm_own_dynamic[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

/* Whether the functions below are what the program's symbols are bound to: in the program's own namespace no object
 * before this one defines one of them. The list is not locked, but at its head are the objects that the process was
 * started with, libc among them, which never go. */
static inline int rsm_children_are_seen(void)
{
    const struct r_debug *debug = rsm_debugger_list();
    for (const struct link_map *map = debug ? debug->r_map : 0; map; map = map->l_next) {
        if (map->l_ld == rsm_own_dynamic)
            return 1;
        if (map->l_ld && rsm_makes_children(map))
            return 0;
    }
    return 0;
}

/* A child is about to get this thread's TLS. A signal handler that interrupts this may ask, and lend, too. */
static inline void rsm_lend(void)
{
    if (rsm_readiness == RSM_EARLY)
        rsm_leave_early();
    if (rsm_readiness == RSM_EARLY) {
        rsm_children_missed = 1;
        return;
    }
    struct rsm_thread *thread = &rsm_thread;
    uint64_t old = __atomic_load_n(&thread->confirmed, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&thread->confirmed, &old, old & 1 ? old + 2 : 3, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
        ;
}

/* It has given it back. */
static inline void rsm_take_back(void)
{
    if (rsm_readiness == RSM_EARLY)
        return;
    struct rsm_thread *thread = &rsm_thread;
    uint64_t old = __atomic_load_n(&thread->confirmed, __ATOMIC_RELAXED);
    while ((old & 1) && !__atomic_compare_exchange_n(&thread->confirmed, &old, old > 3 ? old - 2 : 0, 0,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static inline long rsm_libc_result(long result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

/* Called by vfork() before its system call. */
__attribute__((used, visibility("hidden"))) void rsm_before_vfork(void)
{
    rsm_lend();
}

/* Called by vfork() in the parent with the system call's result; returns what vfork() returns. */
__attribute__((used, visibility("hidden"))) long rsm_after_vfork(long result)
{
    rsm_take_back();
    return rsm_libc_result(result);
}

#ifdef __x86_64__
#include "arch/x86_64_vfork.h"
#else
#include "arch/aarch64_vfork.h"
#endif

/* In arch/<machine>_vfork.h: libc's clone(), but for errno. */
long rsm_clone(int (*start)(void *), void *stack, int flags, void *argument, void *parent_tid, void *tls,
               void *child_tid) __attribute__((visibility("hidden")));

/* Declared with all its arguments: a caller that passes fewer leaves the others as they are, as with libc's. */
RSM_VISIBLE int clone(int (*start)(void *), void *stack, int flags, void *argument, void *parent_tid, void *tls,
                      void *child_tid)
{
    enum { CLONE_VM_FLAG = 0x100, CLONE_VFORK_FLAG = 0x4000, CLONE_SETTLS_FLAG = 0x80000 }; /* linux/sched.h */
    if (!start || !stack)
        return (int)rsm_libc_result(-RSM_EINVAL);
    int own_tls = (flags & CLONE_SETTLS_FLAG) && (uint64_t)tls != rsm_thread_pointer();
    int lends = (flags & CLONE_VM_FLAG) && !own_tls;
    if (lends)
        rsm_lend();
    long result = rsm_clone(start, stack, flags, argument, parent_tid, tls, child_tid);
    if (lends && (result < 0 || (flags & CLONE_VFORK_FLAG)))
        rsm_take_back();
    return (int)rsm_libc_result(result);
}

RSM_VISIBLE int __clone(int (*start)(void *), void *stack, int flags, void *argument, void *parent_tid, void *tls,
                        void *child_tid) __attribute__((alias("clone")));

#endif
