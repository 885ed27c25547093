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

/* Restarts a task from a group-stop: it stays stopped until SIGCONT, which the tracer sees. */
int rsm_trace_listen(int tid);

/* Looks at a stopped task. rsm_trace_message() is what the last event was about: a new task, or an exit status. */
int rsm_trace_registers(int tid, struct rsm_task *task);
int rsm_trace_registration(int tid, struct rsm_kernel_area *registration);
int rsm_trace_call(int tid, struct rsm_call *call);
int rsm_trace_message(int tid, uint64_t *message);

/* Makes the task stop behind each of its own stores to the eight bytes at an address, which is a multiple of 8; 0: no
 * more. The kernel's stores do not count. */
int rsm_trace_watch(int tid, uint64_t address);

/* Whether the task stands behind such a store. */
int rsm_trace_watch_hit(int tid, int *hit);

/* One instruction of a seccomp filter: struct sock_filter (linux/filter.h). */
struct rsm_filter_instruction {
    uint16_t code;
    uint8_t if_true;
    uint8_t if_false;
    uint32_t operand;
};

/* Reads a seccomp filter of a stopped task; 0 is the last that was installed. ENOENT: there are not so many. EACCES,
 * EPERM: that needs CAP_SYS_ADMIN, and no filter on the reader. */
int rsm_trace_filter(int tid, unsigned int which, struct rsm_filter_instruction *program, unsigned int room,
                     unsigned int *count);

/* Plants a breakpoint instruction. */
int rsm_trace_break_at(int tid, uint64_t address);

/* Starts a program that is traced from its exec on, with every task that it will start, in a process group of its own;
 * it ends with the driver. Its output goes to the descriptor `output`, its input is empty. Returns its process id, or
 * -1 with *error set. *stage is 1 where the program itself could not be executed, 0 where tracing failed. */
int rsm_trace_start(const char *path, char **arguments, char **environment, int output, int *error, int *stage);

/* How a task stopped or ended. */
struct rsm_stop {
    uint32_t tid;   /* 0: none did */
    uint32_t ended; /* it is gone; `signal` killed it, or 0 */
    uint32_t signal;
    uint32_t event;   /* PTRACE_EVENT_... */
    uint32_t stepped; /* the stop of a single step */
    uint32_t at_gate; /* the breakpoint of a gate (verify/mailbox_layout.h) */
    uint64_t role;    /* whose gate */
    uint64_t program_counter;
};

enum rsm_walk_end {
    RSM_WALK_LIMIT,   /* of steps */
    RSM_WALK_STOPPED, /* otherwise than by a step: *stop says how */
    RSM_WALK_AT_STOP, /* an address of `stops` is next */
    RSM_WALK_ARMED,   /* the last step stored into rseq_cs */
    RSM_WALK_SLEEPS,  /* the task did not come back from a step in time */
};

/* Waits until a task of a process group stops or ends, or the time is up. ECHILD: there is none. */
int rsm_trace_await(int group, unsigned int microseconds, struct rsm_stop *stop);

/* Single-steps a stopped task. addresses[] gets its program counter after each step, *count says how many, *end is an
 * enum rsm_walk_end. `armed` is the address of an rseq_cs field that is watched, 0 for none. */
int rsm_trace_walk(int tid, uint64_t armed, const uint64_t *stops, unsigned int stop_count, uint64_t *addresses,
                   unsigned int limit, unsigned int *count, unsigned int *end, struct rsm_stop *stop);

/* One step. The task runs on; rsm_trace_await() sees it stop. */
int rsm_trace_step(int tid);

/* Memory of the process of a task. Reading needs no stop, writing does; code is written, too. */
int rsm_trace_read(int tid, uint64_t address, void *to, unsigned int size);
int rsm_trace_write(int tid, uint64_t address, const void *from, unsigned int size);

/* Makes a stopped task go on elsewhere. */
int rsm_trace_move(int tid, uint64_t program_counter);

/* tgkill(2). */
int rsm_trace_signal(int pid, int tid, int signal);
