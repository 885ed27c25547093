/* The probe. It uses raw system calls only and leaves no undefined symbol and no relocation in code, so it runs before
 * its own object is relocated and without a thread pointer. Compiled once for all stages, and linked, hidden, into
 * every object that has one: a call of it is a distance that the linker knows. */
#include "probe.h"

#include "probe_traps.h"
#include "subject_split.h"
#include "trial.h"

_Static_assert(RSM_BUILD_ID_SIZE == RSM_BUILD_ID_LENGTH, "a record holds a whole build id");

#define RSM_PROBE_ADDS 8 /* adds at each firing */
#define RSM_STABLE_READS 16

/* Whether the reads belong together: the thread was on one CPU before and after, and the area has that one, or none.
 * The thread may have been moved away and back in between, most of all where every system call is a stop; an area that
 * does not follow the thread disagrees each time. */
static int rsm_cpu_reads_agree(const struct rsm_record *record, const struct rsm_registration *registration,
                               uint32_t before, uint32_t after)
{
    int says = registration->area && record->area_cpu_id >= 0;
    return before == after && (!says || (uint32_t)record->area_cpu_id == after);
}

/* Reads the CPU from the area, the kernel and libc, until they agree, at most RSM_STABLE_READS times. */
static void rsm_observe_cpu(struct rsm_record *record, const struct rsm_registration *registration,
                            const struct rsm_stage_context *context)
{
    for (int tries = 0; tries < RSM_STABLE_READS; tries++) {
        uint32_t before = 0, after = 0;
        rsm_syscall(RSM_SYS_GETCPU, (long)&before, 0, 0, 0, 0, 0);
        if (registration->area) {
            record->area_cpu_id_start = *(volatile uint32_t *)&registration->area->cpu_id_start;
            record->area_cpu_id = (int32_t)rsm_area_cpu_id(registration->area);
            record->known |= RSM_KNOWN_AREA;
        }
        if (context->sched_getcpu)
            record->sched_getcpu = context->sched_getcpu();
        rsm_syscall(RSM_SYS_GETCPU, (long)&after, 0, 0, 0, 0, 0);
        record->getcpu = (int32_t)after;
        if (rsm_cpu_reads_agree(record, registration, before, after))
            return;
    }
}

static void rsm_observe_libc(struct rsm_record *record, const struct rsm_registration *registration,
                             const struct rsm_stage_context *context)
{
    const struct rsm_libc_symbols *symbols = &registration->symbols;
    record->thread_pointer = registration->thread_pointer;
    record->area_address = (uint64_t)registration->area;
    if (symbols->rseq_offset && symbols->rseq_size && symbols->rseq_flags) {
        record->rseq_offset = *symbols->rseq_offset;
        record->rseq_size = *symbols->rseq_size;
        record->rseq_flags = *symbols->rseq_flags;
        record->known |= RSM_KNOWN_SYMBOLS;
    }
    if (symbols->has_build_id) {
        for (int i = 0; i < RSM_BUILD_ID_SIZE; i++)
            record->build_id[i] = symbols->build_id[i];
        record->known |= RSM_KNOWN_BUILD_ID;
    }
    if (!context->libc_version)
        return;
    const char *version = context->libc_version();
    for (int i = 0; i < RSM_VERSION_SIZE - 1 && version[i]; i++)
        record->libc_version[i] = version[i];
}

static void rsm_observe_kernel(struct rsm_record *record, const struct rsm_registration *registration,
                               uint32_t sabotage)
{
    record->query_size = rsm_query_area(registration->area, &record->query_errno);
    record->kernel_registered = record->query_size != 0;
    record->trial_errno = RSM_UNKNOWN;
    if (!record->query_size && record->query_errno == RSM_EINVAL) {
        record->trial_errno = rsm_trial_registration();
        record->kernel_registered = record->trial_errno == RSM_EINVAL;
    }
    if (record->query_size || record->query_errno == RSM_ENOSYS || record->trial_errno == 0 ||
        record->trial_errno == RSM_EINVAL)
        record->known |= RSM_KNOWN_KERNEL;
    if (rsm_sabotaged(sabotage, RSM_SABOTAGE_ORACLE))
        record->kernel_registered = !record->kernel_registered;
}

/* A tracer that single-steps everything asks what a SIGTRAP is for only while `stopping` is not 0: that saves a system
 * call an instruction. */
static void rsm_read_by_tracer(struct rsm_log *log, uint32_t stage)
{
    __atomic_fetch_add(&log->stopping, 1, __ATOMIC_RELAXED);
    rsm_stop_for_tracer(stage);
    __atomic_fetch_sub(&log->stopping, 1, __ATOMIC_RELAXED);
}

static void rsm_subject_add_inline(struct rsm_log *log, uint32_t stage, struct rsm_record *record,
                                   const struct rsm_registration *registration, uint32_t sabotage)
{
    for (uint32_t i = 0; i < RSM_PROBE_ADDS; i++) {
        __atomic_fetch_add(&log->stage[stage].attempted, 1, __ATOMIC_RELAXED);
        if (i == 3 && rsm_sabotaged(sabotage, RSM_SABOTAGE_LOSE_ADD))
            continue;
        uint64_t n = i == 3 && rsm_sabotaged(sabotage, RSM_SABOTAGE_DOUBLE_ADD) ? 2 : 1;
        struct rsm_split_add add = rsm_split_add(log, registration, stage, n, sabotage);
        record->subject_path = add.path;
        record->subject_aborts += add.aborts;
        record->subject_attempted++;
    }
}

/* Takes the record of `stage` unless it was taken before. */
static void rsm_record_take(struct rsm_log *log, uint32_t stage, const struct rsm_stage_context *context)
{
    uint32_t sabotage = log->stage[stage].sabotage;
    struct rsm_registration registration;
    if (rsm_sabotaged(sabotage, RSM_SABOTAGE_SILENT))
        return;
    if (rsm_sabotaged(sabotage, RSM_SABOTAGE_WRONG_STAGE))
        stage++;
    struct rsm_record *record = &log->record[stage];
    if (__atomic_fetch_add(&log->stage[stage].firings, 1, __ATOMIC_RELAXED) != 0)
        return;
    record->stage = stage;
    record->sequence = __atomic_add_fetch(&log->sequence, 1, __ATOMIC_RELAXED);
    record->pid = (int32_t)rsm_syscall(RSM_SYS_GETPID, 0, 0, 0, 0, 0, 0);
    record->tid = (int32_t)rsm_syscall(RSM_SYS_GETTID, 0, 0, 0, 0, 0, 0);
    record->relocated = rsm_own_relocations_done();
    record->section = context->section;
    record->reached = __atomic_load_n(&log->reached, __ATOMIC_RELAXED);
    record->sched_getcpu = RSM_UNKNOWN;
    __atomic_store_n(&record->state, RSM_RECORD_BEGUN, __ATOMIC_RELEASE);
    rsm_sabotage_act(sabotage);
    rsm_registration_find(&registration);
    rsm_observe_libc(record, &registration, context);
    rsm_observe_cpu(record, &registration, context);
    rsm_observe_kernel(record, &registration, sabotage);
    if (log->traced && !rsm_sabotaged(sabotage, RSM_SABOTAGE_NO_STOP))
        rsm_read_by_tracer(log, stage);
    if (log->source == RSM_SOURCE_INLINE)
        rsm_subject_add_inline(log, stage, record, &registration, sabotage);
    else
        rsm_trial(log, stage);
    if (!rsm_sabotaged(sabotage, RSM_SABOTAGE_SHORT))
        __atomic_store_n(&record->state, RSM_RECORD_COMPLETE, __ATOMIC_RELEASE);
    if (rsm_sabotaged(sabotage, RSM_SABOTAGE_KILLED))
        rsm_sabotage_kill();
}

void rsm_probe(uint32_t stage, struct rsm_stage_context context)
{
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return;
    if (log->stage[stage].enabled) {
        rsm_record_take(log, stage, &context);
        if (rsm_sabotaged(log->stage[stage].sabotage, RSM_SABOTAGE_TWICE))
            rsm_record_take(log, stage, &context);
    }
    rsm_log_unmap(log);
}

int rsm_warm(uint32_t stage)
{
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return 0;
    int enabled = log->stage[stage].enabled != 0;
    if (enabled && log->source != RSM_SOURCE_INLINE)
        rsm_trial_warm(log, stage);
    rsm_log_unmap(log);
    return enabled;
}
