/* Layout of the compiled stage registry. Written in the subset of C that cffi's cdef() accepts: no include, no guard.
 * Include registry.h instead of this file. */

enum rsm_phase {
    RSM_PHASE_LOADING,
    RSM_PHASE_RELOCATION,
    RSM_PHASE_EARLY_INITIALIZATION,
    RSM_PHASE_INITIALIZATION,
    RSM_PHASE_MAIN,
    RSM_PHASE_EXIT,
    RSM_PHASE_TERMINATION,
    RSM_PHASE_BINDING, /* RELOCATION for an eager link, MAIN for a lazy one */
};

enum rsm_link {
    RSM_LINK_DYNAMIC_LAZY = 1,
    RSM_LINK_DYNAMIC_NOW = 2,
    RSM_LINK_STATIC = 4,
    RSM_LINK_STATIC_PIE = 8,
    RSM_LINK_DYNAMIC = 3,
    RSM_LINK_ALL = 15,
};

enum rsm_may {
    RSM_MAY_RAW,       /* raw system calls: perhaps no thread pointer, own relocations perhaps not yet done */
    RSM_MAY_RELOCATED, /* own relocations are done; libc is not initialized, not re-entrant, or not this thread's */
    RSM_MAY_LIBC,      /* libc functions */
};

enum rsm_firing {
    RSM_FIRING_ONCE,
    RSM_FIRING_REPEATS,
};

struct rsm_stage_info {
    const char *carrier;
    const char *hook;
    enum rsm_phase phase;
    unsigned int links; /* set of enum rsm_link */
    enum rsm_may may;
    enum rsm_firing firing;
    const char *fires;
};
