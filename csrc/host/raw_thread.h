/* Threads that libc knows nothing of. */
#ifndef RSM_RAW_THREAD_H
#define RSM_RAW_THREAD_H

/* Runs start() on a new thread whose TLS block is zeroed memory, and waits for its end. initialize: cpu_id of its rseq
 * area is set to RSEQ_CPU_ID_UNINITIALIZED, as rseq(2) asks. Where there are two CPUs the thread is not on CPU 0, which
 * is what a zeroed area says. */
void rsm_raw_thread_run(void (*start)(void), int initialize);

#endif
