/* The memory that the program `interrupted` and its driver share. In the subset of C that cffi's cdef() accepts: no
 * include, no guard. The driver writes a command into a role's box while that role stands at its gate, restarts it,
 * and reads the result when the role is at its gate again. */

/* rax of the breakpoint at a gate ("rseqgate", little-endian) */
#define RSM_GATE_MAGIC 0x6574616771657372

#define RSM_VALUES_MAX 64 /* popped in one command; a stack that gives more has a cycle */
#define RSM_NODES_MAX 16  /* of one role */
#define RSM_CODE_SIZE 8   /* bytes of code that are put back at once */
#define RSM_COUNTER 7     /* the counter that all add to */

enum rsm_role_number {
    RSM_OPERATOR,              /* does the operation that is interrupted */
    RSM_UNREGISTERED_OPERATOR, /* likewise; no rseq area is registered for it */
    RSM_HELPER,                /* does what interrupts the operator */
    RSM_UNREGISTERED_HELPER,
    RSM_HANDLER, /* the signal handler, on an operator's stack */
    RSM_ROLES,
};

enum rsm_command {
    RSM_DO_NOTHING,
    RSM_DO_ADD,        /* argument[0]: n */
    RSM_DO_PUSH,       /* argument[0]: which of its nodes */
    RSM_DO_POP,        /* value[0]: what was popped */
    RSM_DO_EXCHANGE,   /* pops two nodes and pushes the first again; value[0]: the second, which it keeps */
    RSM_DO_FILL,       /* pushes argument[0] nodes, its last ones */
    RSM_DO_DRAIN,      /* pops all; value[] */
    RSM_DO_SUM,        /* value[0] */
    RSM_DO_REGISTER,   /* calls rsm_subject_register() */
    RSM_DO_UNREGISTER, /* argument[]: address, size and signature of the rseq area */
    RSM_DO_MEMBARRIER, /* argument[]: command, flags, CPU */
};

/* The exit status of `interrupted alone`. */
enum rsm_alone {
    RSM_ALONE_ONCE = 0, /* the operation took effect exactly once */
    RSM_ALONE_NONE = 3,
    RSM_ALONE_MORE = 4,
};

/* One a role. A value is never 0: role * RSM_NODES_MAX + node + 1. */
struct rsm_box {
    uint32_t tid;
    uint32_t command; /* enum rsm_command */
    uint64_t argument[3];
    int32_t error;  /* errno of what the command called */
    uint32_t count; /* of value[] */
    uint64_t value[RSM_VALUES_MAX];
    uint64_t code_at; /* code to put back before the command, for a helper that preempted the operator; 0: none */
    uint32_t code_size;
    uint8_t code[RSM_CODE_SIZE];
};

struct rsm_mailbox {
    uint64_t bias; /* what is added to the addresses of the subject's file */
    uint64_t text; /* its executable segments, from here */
    uint64_t text_end;
    uint64_t missing;         /* 1: the subject's functions were not found */
    int32_t membarrier_error; /* errno of the registration for RSEQ membarriers */
    uint32_t interruptions;   /* signals handled */
    uint64_t interrupted_at;  /* the instruction pointer in the last signal's frame */
    struct rsm_box box[RSM_ROLES];
};
