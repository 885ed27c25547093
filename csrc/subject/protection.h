/* Where a critical section is protected: which rseq area the kernel watches for this thread, found out once and then
 * remembered. Shared by the subjects that use rseq; the functions are static, so that nothing is bound at run time.
 *
 * cpu_id does not show it. In the child of a vfork() or of a clone(CLONE_VM) the area, and all other memory, is the
 * parent's, while the kernel keeps no registration for the child; and a raw thread's zeroed TLS block reads as CPU 0.
 * The kernel can be asked (kernel_query.h), but a system call for each add is slow. So the answer is kept in the
 * thread's own TLS, in a variable that holds its own address: in a copy of the block for another thread it does not
 * match. It is kept only in blocks that libc has initialized: those are initialized again before another thread gets
 * them.
 *
 * What would make the answer wrong is a child that runs with its parent's TLS. Both ways to make one through libc are
 * interposed: vfork() and clone() make their caller forget the answer, and ask at every operation, for as long as the
 * child has the TLS. The child of a vfork() gives it back; of the other kind that is not known. Nothing is kept unless
 * these interposed functions are the ones that the program's symbols are bound to. posix_spawn() does without them, and
 * lets no code of the program's run in its child.
 *
 * The process, in rsm_readiness, never goes back:
 *
 *                  TLS is set up and this object relocated, and
 *     RSM_EARLY ----- the interposed functions are in use -------------------> RSM_READY     answers are kept
 *         |
 *         +---------- they are not, or a child was made before this ---------> RSM_CAREFUL   the kernel is asked at
 *                                                                                            every operation
 *
 * A thread, in rsm_thread.confirmed; it may be interrupted by its own signal handlers at any point, so every change is
 * a compare-and-exchange:
 *
 *     +---------+  rsm_keep(): the kernel watches `area`          +-------------------+
 *     |    0    | ----------------------------------------------> |  its own address  |  `area` is used, the kernel is
 *     |  asks   | <---------------------------------------------- |     confirmed     |  not asked
 *     +---------+  rsm_forget(): the area's cpu_id was wrong      +-------------------+
 *        |   ^                                                              |
 *        |   | rsm_take_back(): the last child has given the TLS back       |
 *        |   |                                                              |
 *        v   |  rsm_lend(): a child is about to get this TLS                |
 *     +---------+                                                           |
 *     | 1 + 2n  | <---------------------------------------------------------+
 *     |  lent   |  n children may have this TLS: asks at every operation, and keeps no answer
 *     +---------+  rsm_lend(): n + 1; rsm_take_back(): n - 1
 *
 *     Any other value is another thread's address, in a copy of its TLS block: asks, and keeps no answer.
 *
 * The limits: a child that is made with the bare system call or with a vfork() that was looked up in libc itself, and a
 * program that gives one TLS block to several threads or to a thread after another's end. Such a program has to keep
 * these threads away from rseq. */
#ifndef RSM_SUBJECT_PROTECTION_H
#define RSM_SUBJECT_PROTECTION_H

#include "kernel_query.h"
#include "registration.h"
#include "subject.h"

#define RSM_TRIES 16 /* of one operation; then the fallback: under a single-stepping tracer every try is aborted */

enum rsm_readiness {
    RSM_EARLY,   /* no thread pointer, or not relocated, as far as is known: TLS may not be touched */
    RSM_CAREFUL, /* TLS may be used, but children can be made that are not seen here: no answer is kept */
    RSM_READY,   /* TLS may be used, and answers are kept in it */
};

#define RSM_THREAD_IMAGE 0x6d69727164616572ul

struct rsm_thread {
    uint64_t confirmed; /* this variable's address: the kernel watches `area` for this thread. Else: ask, and if
                           it is odd, keep no answer: 1 + 2 * the children that have this TLS */
    struct rsm_rseq_area *area;
    struct {           /* of the last operation */
        uint32_t path; /* enum rsm_subject_way */
        uint32_t aborts;
    } told;
    int32_t stack;  /* likewise */
    uint64_t image; /* RSM_THREAD_IMAGE in a TLS block that libc has initialized */
};

struct rsm_own_area { /* to register where libc does not; it lives as long as its thread */
    struct rsm_rseq_area area;
    uint8_t rest[RSM_RSEQ_ORIGINAL_SIZE - sizeof(struct rsm_rseq_area)];
} __attribute__((aligned(RSM_RSEQ_ORIGINAL_SIZE)));

static uint32_t rsm_readiness;
static struct rsm_thread rsm_early; /* stands in for TLS while a process is young and has one thread */
static int64_t rsm_libc_offset;
static const uint32_t *rsm_libc_size; /* null: this libc has no area */
static uint32_t rsm_libc_length;      /* with which the kernel has libc's areas registered; 0: not known yet */
static uint32_t rsm_children_missed;  /* 1: a child got the TLS of a thread before that could be noted */
static __thread struct rsm_thread rsm_thread __attribute__((tls_model("initial-exec"))) = {.image = RSM_THREAD_IMAGE};
static __thread struct rsm_own_area rsm_own_area
    __attribute__((tls_model("initial-exec"))) = {.area = {.cpu_id = RSM_CPU_ID_UNINITIALIZED}};

static inline struct rsm_thread *rsm_this_thread(void)
{
    if (__atomic_load_n(&rsm_readiness, __ATOMIC_ACQUIRE) == RSM_EARLY)
        return &rsm_early;
    return &rsm_thread;
}

/* libc's area for this thread as it describes itself; null where it says that it has not registered it. */
static inline struct rsm_rseq_area *rsm_libc_area(void)
{
    if (!rsm_libc_size || !*rsm_libc_size)
        return 0;
    struct rsm_rseq_area *area = (struct rsm_rseq_area *)(rsm_thread_pointer_set() + (uint64_t)rsm_libc_offset);
    return (int32_t)rsm_area_cpu_id(area) >= 0 ? area : 0;
}

#ifdef RSM_CHILDLESS /* a promise: no child is made that runs with its parent's TLS */

static inline int rsm_children_are_seen(void)
{
    return 1;
}

#elif defined(RSM_STATIC)

static inline int rsm_children_are_seen(void)
{
    return 0; /* a static program's vfork() is libc's */
}

#else

static inline int rsm_children_are_seen(void);

#endif

/* Leaves RSM_EARLY if that is possible now. Returns libc's area for this thread where it says that it is registered,
 * else null. */
static inline struct rsm_rseq_area *rsm_leave_early(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    if (!registration.thread_pointer)
        return 0;
    if (rsm_own_relocations_done()) {
        int seen = rsm_children_are_seen() && !rsm_children_missed;
        rsm_libc_offset = registration.symbols.rseq_offset ? *registration.symbols.rseq_offset : 0;
        rsm_libc_size = rsm_libc_offset ? registration.symbols.rseq_size : 0;
        __atomic_store_n(&rsm_readiness, seen ? RSM_READY : RSM_CAREFUL, __ATOMIC_RELEASE);
    }
    return rsm_user_registered(&registration) ? registration.area : 0;
}

#if !defined(RSM_STATIC) && !defined(RSM_CHILDLESS)
#include "interposed.h"
#endif

/* Whether the kernel watches this very area for this thread, with *length, or, where that is 0, with a length that is
 * found out. Whether its answers mean anything is asked every time: a seccomp filter may be installed at any time. */
static inline int rsm_watched(struct rsm_rseq_area *area, uint32_t *length)
{
    int error;
    if (!*length)
        return (*length = rsm_query_area(area, &error)) != 0;
    return rsm_query_control() == RSM_EINVAL &&
           rsm_rseq(area, *length, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE + 1) == RSM_EPERM;
}

/* The subject's own area, if it looks registered. */
static inline struct rsm_rseq_area *rsm_enrolled_area(void)
{
    return (int32_t)rsm_area_cpu_id(&rsm_own_area.area) >= 0 ? &rsm_own_area.area : 0;
}

/* Keeps the answer, unless the TLS is lent, which a signal handler may have done since the kernel was asked. */
static inline void rsm_keep(struct rsm_thread *thread, struct rsm_rseq_area *area)
{
    uint64_t nothing = 0;
    if (rsm_readiness != RSM_READY || thread->image != RSM_THREAD_IMAGE || thread->confirmed)
        return;
    thread->area = area;
    __atomic_compare_exchange_n(&thread->confirmed, &nothing, (uint64_t)thread, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static inline void rsm_forget(struct rsm_thread *thread)
{
    uint64_t confirmed = (uint64_t)thread;
    __atomic_compare_exchange_n(&thread->confirmed, &confirmed, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Asks the kernel. Returns the area that it watches for this thread, null where it watches none that we know. */
static __attribute__((noinline, cold)) struct rsm_rseq_area *rsm_ask(void)
{
    uint32_t own_length = RSM_RSEQ_ORIGINAL_SIZE;
    struct rsm_rseq_area *area = rsm_readiness == RSM_EARLY ? rsm_leave_early() : rsm_libc_area();
    if (!area || !rsm_watched(area, &rsm_libc_length)) {
        area = rsm_readiness == RSM_EARLY ? 0 : rsm_enrolled_area();
        if (!area || !rsm_watched(area, &own_length))
            return 0;
    }
    rsm_keep(rsm_this_thread(), area);
    return area;
}

/* This thread, if it is known to be protected; else null. For where TLS is set up. */
static inline struct rsm_thread *rsm_confirmed_thread(void)
{
    struct rsm_thread *thread = &rsm_thread;
    return __builtin_expect(thread->confirmed == (uint64_t)thread, 1) ? thread : 0;
}

/* The same for where TLS may not be set up. */
static inline struct rsm_thread *rsm_confirmed(void)
{
    if (__builtin_expect(__atomic_load_n(&rsm_readiness, __ATOMIC_ACQUIRE) != RSM_READY, 0))
        return 0;
    return rsm_confirmed_thread();
}

/* Whether nothing is registered for this thread, as far as can be told without asking the kernel: libc says so, and the
 * subject did not register anything either. */
static inline int rsm_surely_unprotected(void)
{
    return rsm_readiness != RSM_EARLY && !rsm_libc_area() && !rsm_enrolled_area();
}

/* The area that critical sections of this thread are protected with; null: none, use the fallback. */
static inline struct rsm_rseq_area *rsm_protected(void)
{
    struct rsm_thread *thread = rsm_confirmed();
    return thread ? thread->area : rsm_ask();
}

/* Asks again, because the area's cpu_id was not the CPU that it should be: what was kept may have become wrong. */
static inline struct rsm_rseq_area *rsm_doubt(void)
{
    rsm_forget(rsm_this_thread());
    return rsm_ask();
}

static inline void rsm_note(enum rsm_subject_way path, uint32_t aborts)
{
    struct rsm_thread *thread = rsm_this_thread();
    thread->told.path = path;
    thread->told.aborts = aborts;
}

#endif
