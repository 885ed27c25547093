/* The messages between the driver and the tracer. In the subset of C that cffi's cdef() accepts: no include, no guard.
 */

#define RSM_REQUEST_MAGIC 0x51355352

enum rsm_traced {
    RSM_TRACED_NOT,
    RSM_TRACED_RECORDS, /* read the kernel's registration at each record with ptrace */
    RSM_TRACED_STEPPED, /* the same, and single-step every instruction of every task */
};

/* One SOCK_SEQPACKET message, with three descriptors attached (SCM_RIGHTS): the log, standard output, standard error.
 * The request is followed by NUL-terminated strings: the working directory, the arguments, the environment. */
struct rsm_request {
    uint32_t magic;
    uint32_t traced;         /* enum rsm_traced */
    uint32_t time_limit;     /* milliseconds; then everything is killed */
    uint32_t argument_count; /* at least 1; the first is the program's path */
    uint32_t environment_count;
    uint32_t worker;    /* which of the tracers that run side by side this is */
    uint32_t unlimited; /* 1: files may be of any size; else a process that prints too much is ended */
};

enum rsm_outcome {
    RSM_OUTCOME_ENDED, /* wait_status tells how */
    RSM_OUTCOME_TIME_LIMIT,
    RSM_OUTCOME_NOT_STARTED, /* error tells why */
    RSM_OUTCOME_BAD_REQUEST,
};

struct rsm_reply {
    uint32_t outcome;     /* enum rsm_outcome */
    int32_t wait_status;  /* of the process that was started, wait(2) */
    int32_t error;        /* errno */
    int32_t trace_error;  /* errno of PTRACE_SEIZE; 0 if traced or not asked for */
    uint32_t strays;      /* processes that were still alive when the started one had ended */
    int32_t pid;          /* of the process that was started */
    uint64_t nanoseconds; /* from its start to its end */
};
