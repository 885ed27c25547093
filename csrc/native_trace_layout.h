/* ptrace(2) for Python, through cffi: a function is a request, or a few that belong together. In the subset of C that
 * cffi's cdef() accepts: no include, no guard. Every function that returns int returns 0 or errno. All of them must be
 * called from the same thread of the driver: the kernel knows a tracer by its thread. */

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
    RSM_CALL_NONE,  /* neither of the two */
    RSM_CALL_ENTRY, /* a syscall-entry-stop */
    RSM_CALL_EXIT,  /* a syscall-exit-stop */
};

struct rsm_call {
    uint32_t side;   /* enum rsm_call_side */
    uint64_t number; /* at the entry */
    int64_t result;  /* at the exit */
};

/* PTRACE_SEIZE: the task is traced and not stopped. PTRACE_INTERRUPT stops it. */
int rsm_trace_hold(int tid);
int rsm_trace_interrupt(int tid);

/* Restarts a stopped task, with a signal or 0: PTRACE_CONT, or PTRACE_SYSCALL, after which it stops at the next
 * syscall-entry-stop or syscall-exit-stop; PTRACE_DETACH. */
int rsm_trace_go_on(int tid, int signal, int to_system_call);
int rsm_trace_release(int tid, int signal);

/* Restarts a task from a group-stop: it stays stopped until SIGCONT, which the tracer sees. */
int rsm_trace_listen(int tid);

/* Reads a stopped task's registers, its rseq registration (PTRACE_GET_RSEQ_CONFIGURATION), the system call that it is
 * stopped at (PTRACE_GET_SYSCALL_INFO), and the message of its PTRACE_EVENT_... stop: a new task's id, an exit status
 * (PTRACE_GETEVENTMSG). */
int rsm_trace_registers(int tid, struct rsm_task *task);
int rsm_trace_registration(int tid, struct rsm_kernel_area *registration);
int rsm_trace_call(int tid, struct rsm_call *call);
int rsm_trace_message(int tid, uint64_t *message);

/* Sets a debug register of a stopped task, so that it stops behind each of its own stores to the eight bytes at an
 * address, which is a multiple of 8; 0: no more. The kernel's stores do not count. */
int rsm_trace_watch(int tid, uint64_t address);

/* Whether the task is stopped behind such a store. */
int rsm_trace_watch_hit(int tid, int *hit);

/* One instruction of a seccomp filter: struct sock_filter (linux/filter.h). */
struct rsm_filter_instruction {
    uint16_t code;
    uint8_t if_true;
    uint8_t if_false;
    uint32_t operand;
};

/* PTRACE_SECCOMP_GET_FILTER of a stopped task; 0 is the last that was installed. ENOENT: there are not so many. EACCES,
 * EPERM: that needs CAP_SYS_ADMIN, and no filter on the reader. */
int rsm_trace_filter(int tid, unsigned int which, struct rsm_filter_instruction *program, unsigned int room,
                     unsigned int *count);

/* Writes a breakpoint instruction into the code of a stopped task. */
int rsm_trace_break_at(int tid, uint64_t address);

/* Starts a program that is traced from its exec on, with every task that it will start, in a process group of its own;
 * it ends with the driver. Its output goes to the descriptor `output`, its input is empty. Returns its process id, or
 * -1 with *error set. *stage is 1 where the program itself could not be executed, 0 where tracing failed. */
int rsm_trace_start(const char *path, char **arguments, char **environment, int output, int *error, int *stage);

/* How a task stopped or ended. */
struct rsm_stop {
    uint32_t tid;     /* 0: none did */
    uint32_t ended;   /* it is gone; `signal` killed it, or 0 */
    uint32_t signal;  /* of a signal-delivery-stop: pending until the task is restarted with it */
    uint32_t event;   /* PTRACE_EVENT_..., or 0 */
    uint32_t stepped; /* the stop of a single step */
    uint32_t at_gate; /* the breakpoint of a gate (verify/mailbox_layout.h) */
    uint64_t role;    /* that waits at that gate */
    uint64_t program_counter;
};

enum rsm_walk_end {
    RSM_WALK_LIMIT,   /* `limit` steps were made */
    RSM_WALK_STOPPED, /* not by a step: *stop says how */
    RSM_WALK_AT_STOP, /* an address of `stops` is next */
    RSM_WALK_ARMED,   /* the last step stored into rseq_cs */
    RSM_WALK_SLEEPS,  /* the task did not stop behind a step in time: it sleeps in a system call */
};

/* Waits until a task of a process group stops or ends, or the time is up. ECHILD: there is none. */
int rsm_trace_await(int group, unsigned int microseconds, struct rsm_stop *stop);

/* Single-steps a stopped task. addresses[] gets its program counter after each step, *count says how many, *end is an
 * enum rsm_walk_end. `armed` is the address of an rseq_cs field that is watched, 0 for none. */
int rsm_trace_walk(int tid, uint64_t armed, const uint64_t *stops, unsigned int stop_count, uint64_t *addresses,
                   unsigned int limit, unsigned int *count, unsigned int *end, struct rsm_stop *stop);

/* PTRACE_SINGLESTEP. rsm_trace_await() reports the stop behind it. */
int rsm_trace_step(int tid);

/* Memory of the process of a task. Reading needs no stop, writing does; code is written, too. */
int rsm_trace_read(int tid, uint64_t address, void *to, unsigned int size);
int rsm_trace_write(int tid, uint64_t address, const void *from, unsigned int size);

/* Changes the program counter of a stopped task. */
int rsm_trace_move(int tid, uint64_t program_counter);

/* tgkill(2). */
int rsm_trace_signal(int pid, int tid, int signal);
