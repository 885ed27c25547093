/* The tracer: a small process between the driver and the scenarios. It starts them, looks at the kernel's rseq
 * registration of the thread at each record, enforces the time limit, and leaves no process behind. Its files: main.c
 * (messages), spawn.c (start of a process), trace.c (stops), step.c (restarts and single steps), reap.c (end of all
 * processes), stop.h (what a stop means). */
#ifndef RSM_TRACER_H
#define RSM_TRACER_H

#include <stdint.h>
#include <sys/types.h>

#include "record.h"
#include "tracer_layout.h"

enum { RSM_DESCRIPTOR_LOG, RSM_DESCRIPTOR_OUTPUT, RSM_DESCRIPTOR_ERROR, RSM_DESCRIPTOR_COUNT };

struct rsm_step_state { /* of the one task that is being single-stepped; tid 0: none is */
    pid_t tid;
    uint32_t stage;
    uint32_t section; /* that it is in; the number of sections: in none */
    uint32_t count;   /* steps so far */
    uint64_t base;    /* where the subject is loaded */
};

struct rsm_job {
    const struct rsm_request *request;
    const char *directory;
    char **arguments;   /* null-terminated */
    char **environment; /* null-terminated */
    int descriptor[RSM_DESCRIPTOR_COUNT];
    struct rsm_log *log;
    struct rsm_step_state step;
    pid_t unstepped; /* the one task that is not single-stepped though all are; 0: none is */
    struct rsm_reply reply;
};

/* Starts the job's process, seized if that is wanted and permitted. Returns 0, or -1 with reply.error set. */
int rsm_spawn(struct rsm_job *job);

/* Serves the stop that a wait status of a traced task is about, and restarts the task. */
void rsm_serve_stop(struct rsm_job *job, pid_t tid, int status);

/* Whether a task is single-stepped: it is the one whose add is, or all tasks are. */
int rsm_is_stepped(const struct rsm_job *job, pid_t tid);

/* Restarts a stopped task with a signal, or 0: with PTRACE_SINGLESTEP where it is single-stepped, else PTRACE_CONT. */
void rsm_restart(const struct rsm_job *job, pid_t tid, int signal);

/* Single-stepping an add: from the probe's breakpoint before it, at every step, at the breakpoint behind it. Each
 * restarts the task. */
void rsm_step_start(struct rsm_job *job, pid_t tid, uint32_t stage, uint64_t base);
void rsm_step_seen(struct rsm_job *job, pid_t tid);
void rsm_step_stop(struct rsm_job *job, pid_t tid);

/* Seizes `pid`. Returns 0 or errno. */
int rsm_trace_seize(pid_t pid);

/* Kills and waits for every descendant that is left; `group` is the process group of the started one. Returns how many
 * were alive. */
uint32_t rsm_reap_all(pid_t group);

#endif
