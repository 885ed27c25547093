/* What Python does to the tasks whose memory `inspect` draws: ptrace(2), through cffi. In the subset of C that cffi's
 * cdef() accepts: no include, no guard. Every function that returns int returns 0 or errno. All of them must be called
 * from the same thread of the driver: the kernel knows a tracer by its thread. */

/* Registers of a stopped task. */
struct rsm_task {
    uint64_t thread_pointer;
    uint64_t program_counter;
};

/* The kernel's own struct ptrace_rseq_configuration. An address of 0: nothing is registered. */
struct rsm_kernel_area {
    uint64_t address;
    uint32_t size;
    uint32_t signature;
    uint32_t flags;
    uint32_t padding;
};

enum rsm_call_side {
    RSM_CALL_NONE, /* the task is not stopped at a system call */
    RSM_CALL_ENTRY,
    RSM_CALL_EXIT,
};

struct rsm_call {
    uint32_t side;   /* enum rsm_call_side */
    uint64_t number; /* at the entry */
    int64_t result;  /* at the exit */
};

/* Takes hold of a running task without stopping it; rsm_trace_interrupt() stops it. */
int rsm_trace_hold(int tid);
int rsm_trace_interrupt(int tid);

/* Lets a stopped task go on, with a signal or 0; rsm_trace_release() for good. */
int rsm_trace_go_on(int tid, int signal, int to_system_call);
int rsm_trace_release(int tid, int signal);

/* Looks at a stopped task. rsm_trace_message() is what the last event was about: a new task, or an exit status. */
int rsm_trace_registers(int tid, struct rsm_task *task);
int rsm_trace_registration(int tid, struct rsm_kernel_area *registration);
int rsm_trace_call(int tid, struct rsm_call *call);
int rsm_trace_message(int tid, uint64_t *message);

/* Plants a breakpoint instruction. */
int rsm_trace_break_at(int tid, uint64_t address);

/* Starts a program that is traced from its exec on, with every task that it will start, in a process group of its own;
 * it ends with the driver. Its output goes to the descriptor `output`, its input is empty. Returns its process id, or
 * -1 with *error set. *stage is 1 where the program itself could not be executed, 0 where tracing failed. */
int rsm_trace_start(const char *path, char **arguments, char **environment, int output, int *error, int *stage);
