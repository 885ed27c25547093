/* Finds the log from any stage. The log is inherited at a fixed descriptor and mapped for the length of one probe, so
 * no state is kept that a fork, an exec, a new namespace or a missing relocation could make wrong. Being shared memory,
 * it keeps what was written when the process is killed in the next instruction. */
#ifndef RSM_LOG_H
#define RSM_LOG_H

#include "arch.h"
#include "record.h"

/* Null where the process was not started by this version of the driver. */
static inline struct rsm_log *rsm_log_map(void)
{
    enum { PROT_READ_WRITE = 3, MAP_SHARED_FILE = 1 };
    long address =
        rsm_syscall(RSM_SYS_MMAP, 0, sizeof(struct rsm_log), PROT_READ_WRITE, MAP_SHARED_FILE, RSM_LOG_FD, 0);
    struct rsm_log *log = (struct rsm_log *)address;
    if (address < 0 && address > -4096)
        return 0;
    if (log->magic == RSM_LOG_MAGIC && log->size == sizeof(struct rsm_log))
        return log;
    rsm_syscall(RSM_SYS_MUNMAP, address, sizeof(struct rsm_log), 0, 0, 0, 0);
    return 0;
}

static inline void rsm_log_unmap(struct rsm_log *log)
{
    rsm_syscall(RSM_SYS_MUNMAP, (long)log, sizeof(struct rsm_log), 0, 0, 0, 0);
}

/* Whether `stage` is enabled in this process; a host does not bring about a stage that is not. */
static inline int rsm_stage_enabled(uint32_t stage)
{
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return 0;
    int enabled = log->stage[stage].enabled != 0;
    rsm_log_unmap(log);
    return enabled;
}

#endif
