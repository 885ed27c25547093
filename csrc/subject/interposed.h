/* vfork() and clone(), interposed: what they do to the answer that protection.h keeps. The object that holds them has
 * to be before libc in the order in which the program's symbols are looked up; whether it is, is read from the dynamic
 * linker's list. */
#ifndef RSM_SUBJECT_INTERPOSED_H
#define RSM_SUBJECT_INTERPOSED_H

#include <errno.h>
#include <link.h>
#include <stdarg.h>

#include "subject_object.h"
#include "visible.h"

/* Whether the first object of the program's own namespace that defines `name` is this one. */
static inline int rsm_binds_here(const struct r_debug *debug, const char *name)
{
    for (const struct link_map *map = debug->r_map; map; map = map->l_next) {
        struct rsm_dynamic_tables tables = {0};
        if (!map->l_ld)
            continue;
        rsm_dynamic_tables_read(&tables, map->l_addr, map->l_ld);
        if (rsm_dynamic_symbol(&tables, name))
            return map->l_addr == (uint64_t)rsm_own_base;
    }
    return 0;
}

static inline int rsm_children_are_seen(void)
{
    const struct r_debug *debug = rsm_debugger_list();
    return debug && rsm_binds_here(debug, "vfork") && rsm_binds_here(debug, "clone");
}

/* Called by vfork() before its system call. The child finds no answer and, when it asks, gets none. A signal handler
 * may come before the system call, and ask: what it hears is not kept. */
__attribute__((used, visibility("hidden"))) void rsm_before_vfork(void)
{
    if (rsm_readiness == RSM_EARLY)
        return;
    struct rsm_thread *thread = rsm_this_thread();
    thread->vforking = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->area = 0;
}

/* Called by vfork() in the parent with the system call's result; returns what vfork() returns. */
__attribute__((used, visibility("hidden"))) long rsm_after_vfork(long result)
{
    if (rsm_readiness != RSM_EARLY)
        rsm_this_thread()->vforking = 0;
    if (result > 0)
        return result;
    errno = (int)-result;
    return -1;
}

#ifdef __x86_64__
#include "arch/x86_64_vfork.h"
#else
#include "arch/aarch64_vfork.h"
#endif

int __clone(int (*start)(void *), void *stack, int flags, void *argument, ...); /* libc's other name for it */

RSM_VISIBLE int clone(int (*start)(void *), void *stack, int flags, void *argument, ...)
{
    enum { CLONE_VM_FLAG = 0x100, CLONE_SETTLS_FLAG = 0x80000 }; /* linux/sched.h */
    va_list more;
    va_start(more, argument);
    void *parent_tid = va_arg(more, void *), *tls = va_arg(more, void *), *child_tid = va_arg(more, void *);
    va_end(more);
    if (rsm_readiness != RSM_EARLY && (flags & CLONE_VM_FLAG) && !(flags & CLONE_SETTLS_FLAG)) {
        struct rsm_thread *thread = rsm_this_thread();
        thread->shared = 1;
        thread->area = 0;
    }
    return __clone(start, stack, flags, argument, parent_tid, tls, child_tid);
}

#endif
