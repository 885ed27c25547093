/* process.clone_thread and process.clone_thread_zeroed. Fired in threads that a raw clone(CLONE_THREAD) starts, as
 * runtimes do that create threads without libc (raw_thread.c). Their rseq area is not registered. In the first the area
 * is initialized as rseq(2) asks, so it says so; in the second it is all zero, which reads as "registered, on CPU 0".
 * The TLS block is not libc's, so libc may not be called. */
#include "probe.h"
#include "raw_thread.h"
#include "steps.h"

static void in_initialized(void)
{
    RSM_PROBE(process, clone_thread);
}

static void in_zeroed(void)
{
    RSM_PROBE(process, clone_thread_zeroed);
}

void rsm_process_clone_thread(void)
{
    rsm_raw_thread_run(in_initialized, 1);
}

void rsm_process_clone_thread_zeroed(void)
{
    rsm_raw_thread_run(in_zeroed, 0);
}
