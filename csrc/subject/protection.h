/* Where a critical section is protected: which rseq area the kernel watches for this thread, found out once and then
 * remembered. Shared by the subjects that use rseq; the functions are static, so that nothing is bound at run time.
 *
 * cpu_id does not tell it. In the child of a vfork() or of a clone(CLONE_VM) the area, and all other memory, is the
 * parent's, while the kernel keeps no registration for the child; and a raw thread's zeroed TLS block reads as CPU 0.
 * The kernel tells it (kernel_query.h), but a system call an add is dear. So the answer is kept in the thread's own
 * TLS, with the variable's address, which a copy of the TLS block for another thread does not match. A new thread's is
 * zero.
 *
 * What would make the answer wrong is a child that runs with its parent's TLS. Both ways to make one through libc are
 * interposed: vfork() makes its caller forget the answer, and the child, when it asks, is told that nothing is
 * registered; a thread that calls clone(CLONE_VM) without a TLS block for the child asks at every operation from then
 * on. Nothing is kept unless these interposed functions are the ones that the program's symbols are bound to. A child
 * that somebody makes with the bare system call is beyond this; who does that has to keep the child away from rseq. */
#ifndef RSM_SUBJECT_PROTECTION_H
#define RSM_SUBJECT_PROTECTION_H

#include "kernel_query.h"
#include "registration.h"
#include "subject.h"

#define RSM_TRIES 16 /* of one operation; then the fallback: under a single-stepping tracer every try is aborted */

enum rsm_readiness {
    RSM_EARLY,   /* no thread pointer, or not relocated, as far as is known: TLS may not be touched */
    RSM_CAREFUL, /* TLS is there, but children can come by that we do not see: nothing is kept */
    RSM_READY,
};

struct rsm_thread {
    const struct rsm_thread *self; /* this variable, once it was set up */
    struct rsm_rseq_area *area;    /* the kernel watches it; null: ask */
    struct rsm_rseq_area *own;     /* the subject's own, if it was registered */
    uint32_t shared;               /* 1: somebody else runs with this TLS, for ever */
    uint32_t vforking;             /* 1: between vfork()'s call and its return in the parent */
    uint32_t path;                 /* of the last operation, enum rsm_subject_way */
    uint32_t aborts;               /* likewise */
    int32_t stack;                 /* likewise */
};

static uint32_t rsm_readiness;
static struct rsm_thread rsm_early; /* stands in for TLS while a process is young and has one thread */
static int64_t rsm_libc_offset;
static const uint32_t *rsm_libc_size; /* null: this libc has no area */
static uint32_t rsm_libc_length;      /* with which the kernel has libc's areas registered; 0: not known yet */
static __thread struct rsm_thread rsm_thread __attribute__((tls_model("initial-exec")));

static inline struct rsm_thread *rsm_this_thread(void)
{
    if (__atomic_load_n(&rsm_readiness, __ATOMIC_ACQUIRE) == RSM_EARLY)
        return &rsm_early;
    struct rsm_thread *thread = &rsm_thread;
    if (thread->self != thread) {
        thread->area = 0;
        thread->own = 0;
        thread->shared = 0;
        thread->vforking = 0;
        thread->self = thread;
    }
    return thread;
}

/* libc's area for this thread as it describes itself; null where it says that it has not registered it. */
static inline struct rsm_rseq_area *rsm_libc_area(void)
{
    if (!rsm_libc_size || !*rsm_libc_size)
        return 0;
    struct rsm_rseq_area *area = (struct rsm_rseq_area *)(rsm_thread_pointer_set() + (uint64_t)rsm_libc_offset);
    return (int32_t)rsm_area_cpu_id(area) >= 0 ? area : 0;
}

#ifdef RSM_STATIC

static inline int rsm_children_are_seen(void)
{
    return 0; /* a static program's vfork() is libc's */
}

#else

#include "interposed.h"

#endif

/* Looks around. What is found stays true for the life of the process, so it is looked for only as long as it is not. */
static inline struct rsm_rseq_area *rsm_look_around(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    if (!registration.thread_pointer)
        return 0;
    if (rsm_own_relocations_done()) {
        rsm_libc_offset = registration.symbols.rseq_offset ? *registration.symbols.rseq_offset : 0;
        rsm_libc_size = rsm_libc_offset ? registration.symbols.rseq_size : 0;
        __atomic_store_n(&rsm_readiness, rsm_children_are_seen() ? RSM_READY : RSM_CAREFUL, __ATOMIC_RELEASE);
    }
    return rsm_user_registered(&registration) ? registration.area : 0;
}

/* Whether the kernel watches this very area for this thread. The length is the same for all threads of a process. */
static inline int rsm_watched(struct rsm_rseq_area *area, uint32_t *length)
{
    int error;
    if (*length)
        return rsm_rseq(area, *length, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE + 1) == RSM_EPERM;
    *length = rsm_query_area(area, &error);
    return *length != 0;
}

/* Asks the kernel. Returns the area that it watches for this thread, null where it watches none that we know. */
static __attribute__((noinline, cold)) struct rsm_rseq_area *rsm_ask(void)
{
    uint32_t own_length = RSM_RSEQ_ORIGINAL_SIZE;
    struct rsm_rseq_area *area = rsm_readiness == RSM_EARLY ? rsm_look_around() : rsm_libc_area();
    struct rsm_thread *thread = rsm_this_thread();
    int own = thread->own && (int32_t)rsm_area_cpu_id(thread->own) >= 0;
    if (own)
        area = thread->own;
    if (!area || !rsm_watched(area, own ? &own_length : &rsm_libc_length))
        return 0;
    if (rsm_readiness == RSM_READY && !thread->shared && !thread->vforking)
        thread->area = area;
    return area;
}

/* The area that critical sections of this thread are protected with; null: none, use the fallback. */
static inline struct rsm_rseq_area *rsm_protected(void)
{
    if (__builtin_expect(__atomic_load_n(&rsm_readiness, __ATOMIC_ACQUIRE) == RSM_READY, 1)) {
        struct rsm_thread *thread = &rsm_thread;
        if (__builtin_expect(thread->self == thread && thread->area != 0, 1))
            return thread->area;
    }
    return rsm_ask();
}

/* Asks again: what was kept may have become wrong, because the area does not tell the CPU that it should. */
static inline struct rsm_rseq_area *rsm_doubt(void)
{
    rsm_this_thread()->area = 0;
    return rsm_ask();
}

static inline void rsm_note(enum rsm_subject_way path, uint32_t aborts)
{
    struct rsm_thread *thread = rsm_this_thread();
    thread->path = path;
    thread->aborts = aborts;
}

#endif
