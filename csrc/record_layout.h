/* Layout of the log: the memory that a scenario's processes, the tracer and the driver share. Stated only here, in
 * the subset of C that cffi's cdef() accepts: no include, no guard. Include record.h instead of this file. */

#define RSM_LOG_MAGIC 0x314d5352
#define RSM_LOG_FD 199 /* the log is inherited at this descriptor: early code has no other way to find it */
#define RSM_STAGE_MAX 128
#define RSM_CPU_MAX 1024
#define RSM_BUILD_ID_SIZE 20
#define RSM_VERSION_SIZE 16
#define RSM_UNKNOWN -1000000 /* an int field that was not observed */

/* rax of the probe's breakpoint: tells the tracer that a record is being taken ("rseq_mtx", little-endian) */
#define RSM_TRAP_MAGIC 0x78746d5f71657372
/* the same, of the breakpoints around an add that the tracer is to single-step ("rseq_stp", "rseq_end") */
#define RSM_TRAP_STEP 0x7074735f71657372
#define RSM_TRAP_STEP_END 0x646e655f71657372
/* and, where every instruction is single-stepped, around what is not to be ("rseq_fre", "rseq_all") */
#define RSM_TRAP_FREE 0x6572665f71657372
#define RSM_TRAP_FREE_END 0x6c6c615f71657372

#define RSM_SUBJECT_PATH_SIZE 1024
#define RSM_SECTIONS_MAX 512
#define RSM_WATCHED_MAX 64
#define RSM_STEPS_MAX 20000 /* of one add */

enum rsm_record_state {
    RSM_RECORD_NONE,
    RSM_RECORD_BEGUN,
    RSM_RECORD_COMPLETE,
};

/* bits of rsm_record.known: which parts were observed */
enum rsm_known {
    RSM_KNOWN_SYMBOLS = 1,  /* libc has __rseq_offset, __rseq_size and __rseq_flags; they were read */
    RSM_KNOWN_AREA = 2,     /* the area at thread pointer + __rseq_offset was read */
    RSM_KNOWN_KERNEL = 4,   /* rseq(2) told whether an area is registered */
    RSM_KNOWN_BUILD_ID = 8, /* build id of the dynamic linker */
};

/* whether the critical section that a signal interrupted was aborted */
enum rsm_section {
    RSM_SECTION_NONE, /* none was interrupted */
    RSM_SECTION_ABORTED,
    RSM_SECTION_CONTINUED,
};

/* how a subject's add was done */
enum rsm_path {
    RSM_PATH_NONE,
    RSM_PATH_FAST,
    RSM_PATH_FALLBACK,
};

/* where the main program was when a record was taken; the hosts report it */
enum rsm_reached {
    RSM_REACHED_START,
    RSM_REACHED_MAIN, /* main() has been entered */
    RSM_REACHED_EXIT, /* main() is about to return or to call an exit function */
};

/* one a stage; written by the probe, the oracle_* fields by the tracer */
struct rsm_record {
    uint32_t state;    /* enum rsm_record_state */
    uint32_t stage;    /* enum rsm_stage */
    uint32_t sequence; /* order of the records in this log, from 1 */
    uint32_t known;    /* set of enum rsm_known */
    int32_t pid;
    int32_t tid;
    uint32_t relocated;      /* 1: the relocations of the object that holds the probe are done */
    uint32_t section;        /* enum rsm_section */
    uint64_t thread_pointer; /* FS base; 0: not set */
    int64_t rseq_offset;     /* bytes from the thread pointer */
    uint32_t rseq_size;      /* bytes */
    uint32_t rseq_flags;
    uint64_t area_address;
    uint32_t area_cpu_id_start;
    int32_t area_cpu_id;  /* -1 uninitialized, -2 registration failed (enum rseq_cpu_id_state of linux/rseq.h) */
    int32_t getcpu;       /* CPU, from the system call */
    int32_t sched_getcpu; /* CPU, from libc's function; RSM_UNKNOWN where calling libc is not allowed */
    int32_t query_errno;  /* rseq(area, length, UNREGISTER, signature + 1): EPERM registered, EINVAL not */
    uint32_t query_size;  /* the length that was answered with EPERM; 0: none was */
    int32_t trial_errno;  /* registration of a scratch area: 0 means that none was registered; RSM_UNKNOWN: not tried */
    uint32_t kernel_registered;
    uint32_t oracle_present; /* 1: the tracer read PTRACE_GET_RSEQ_CONFIGURATION */
    int32_t oracle_errno;    /* why it could not */
    uint64_t oracle_address; /* 0: not registered */
    uint32_t oracle_size;
    uint32_t oracle_signature;
    uint32_t subject_path;      /* enum rsm_path, of the last add */
    uint32_t subject_attempted; /* adds */
    uint32_t subject_aborts;    /* critical sections that the kernel aborted */
    uint32_t reached;           /* enum rsm_reached, of the main program */
    uint8_t build_id[RSM_BUILD_ID_SIZE];
    char libc_version[RSM_VERSION_SIZE]; /* gnu_get_libc_version(); empty where calling libc is not allowed */
    uint32_t reserved;
};

/* what a host does of its environment itself, in main(), because it cannot be done from outside */
enum rsm_host_environment {
    RSM_HOST_OWN_AREA = 1,    /* it registers an area of its own, in main() and in each thread */
    RSM_HOST_LATE_FILTER = 2, /* a seccomp filter that refuses rseq(2) with EPERM */
};

/* which subject adds at the stages */
enum rsm_subject_source {
    RSM_SOURCE_INLINE, /* the probes' own, subject_split.h: its counters lie in the log */
    RSM_SOURCE_OBJECT, /* the shared object at rsm_log.subject_path */
    RSM_SOURCE_LINKED, /* a built-in one that static programs hold */
};

/* the built-in subjects that static programs hold */
enum rsm_linked_subject {
    RSM_LINKED_SPLIT,
    RSM_LINKED_ATOMIC,
    RSM_LINKED_LIST,
};

/* what a stage had done with the subject when it ended or crashed */
enum rsm_trial_progress {
    RSM_TRIAL_NONE,
    RSM_TRIAL_SEARCHED, /* `copies` is known */
    RSM_TRIAL_SUM_BEFORE,
    RSM_TRIAL_ADD,
    RSM_TRIAL_SUM_AFTER,
    RSM_TRIAL_OTHER_SUMS,
    RSM_TRIAL_DONE,
};

/* what a subject that `verify` tests did at a stage: written by the probe, the stepped_* fields by the tracer */
struct rsm_trial {
    uint32_t progress;  /* enum rsm_trial_progress; a crash in one of its calls leaves it there */
    uint32_t copies;    /* of the subject, mapped in this process */
    uint32_t usable;    /* 1: the copy that this stage's code would use has the functions */
    uint32_t relocated; /* 1: its relocations are done; 2: it has none to tell by */
    uint64_t base;      /* where that copy was loaded */
    uint64_t attempted; /* adds */
    uint64_t committed; /* by how much the stage's sum grew */
    uint64_t fast;      /* adds that the subject reports as such */
    uint64_t fallback;
    uint64_t aborts;
    uint32_t books; /* counters of other stages that were compared with what was added in this process */
    uint32_t wrong; /* the stage of the first whose sum was not right; RSM_STAGE_MAX: none */
    uint64_t want;  /* of that one */
    uint64_t got;
    uint32_t stepped;         /* adds that the tracer stepped through to their end */
    uint32_t stepped_limited; /* adds that it stopped stepping after RSM_STEPS_MAX steps */
    uint32_t stepped_most;    /* instructions in one add */
    uint32_t stepped_commits; /* times that a section was left at its end */
    uint32_t stepped_aborts;  /* times that one was left otherwise */
    uint32_t stepped_section; /* index of the section last entered */
    uint64_t stepped_at;      /* address in it that was last executed, relative to base */
    uint64_t stepped_watched; /* a bit for each of rsm_log.watched that was executed */
};

/* a critical section of the subject, relative to where it is loaded */
struct rsm_section_place {
    uint64_t start;
    uint64_t end;
};

struct rsm_stage_slot {
    uint32_t enabled;   /* 1: this stage is wanted in this process; others do nothing */
    uint32_t firings;   /* how often its code ran */
    uint32_t attempted; /* adds that the subject began, over all firings */
    uint32_t sabotage;  /* enum rsm_sabotage, obeyed only by probes built for testing the tester */
};

/* one counter a stage; of one CPU, or shared by all */
struct rsm_counters {
    uint64_t add[RSM_STAGE_MAX];
};

struct rsm_log {
    uint32_t magic;
    uint32_t size;     /* sizeof(struct rsm_log) in the driver that made it */
    uint32_t traced;   /* 1: a tracer waits for the probe's breakpoint */
    uint32_t sequence; /* the last one given */
    uint32_t reached;  /* enum rsm_reached */
    uint32_t source;   /* enum rsm_subject_source */
    uint32_t linked;   /* which one, for RSM_SOURCE_LINKED */
    uint32_t adds;     /* at each stage, for a subject of verify's */
    uint32_t section_count;
    uint32_t watched_count;
    uint32_t host_environment; /* set of enum rsm_host_environment */
    int32_t program_pid; /* of the program, where another one starts it; 0: it is the one that the tracer started */
    uint32_t stopping;   /* threads that are about to stop for the tracer, or have just stopped */
    uint32_t stepped;    /* 1: the tracer single-steps every instruction of every task */
    uint32_t padding[2]; /* to a cache line */
    struct rsm_stage_slot stage[RSM_STAGE_MAX];
    struct rsm_record record[RSM_STAGE_MAX];
    struct rsm_trial trial[RSM_STAGE_MAX];
    struct rsm_section_place section[RSM_SECTIONS_MAX];
    uint64_t watched[RSM_WATCHED_MAX];        /* instructions of the subject, relative to where it is loaded */
    char subject_path[RSM_SUBJECT_PATH_SIZE]; /* as /proc/PID/maps shows it */
    struct rsm_counters shared;               /* added to with atomics, by the fallback */
    struct rsm_counters cpu[RSM_CPU_MAX];     /* added to inside critical sections, by the fast path */
};

/* defects that the tests plant */
enum rsm_sabotage {
    RSM_SABOTAGE_NONE,
    RSM_SABOTAGE_WRONG_STAGE, /* the record names the next stage */
    RSM_SABOTAGE_SILENT,      /* the stage leaves no record */
    RSM_SABOTAGE_SHORT,       /* the record is begun and never completed */
    RSM_SABOTAGE_CRASH,
    RSM_SABOTAGE_HANG,
    RSM_SABOTAGE_GARBAGE,     /* bytes on standard output */
    RSM_SABOTAGE_STRAY_CHILD, /* a child in a session of its own that never ends */
    RSM_SABOTAGE_EARLY_EXIT,
    RSM_SABOTAGE_KILLED, /* SIGKILL in the instruction after the record is complete */
    RSM_SABOTAGE_TWICE,  /* the stage fires again */
    RSM_SABOTAGE_LOSE_ADD,
    RSM_SABOTAGE_DOUBLE_ADD,
    RSM_SABOTAGE_TRUST_USER, /* the subject believes cpu_id without asking the kernel */
    RSM_SABOTAGE_FALLBACK,   /* the subject never takes the fast path */
    RSM_SABOTAGE_ORACLE,     /* the in-process oracle says the opposite */
    RSM_SABOTAGE_NO_STOP,    /* the probe does not stop for the tracer */
};
