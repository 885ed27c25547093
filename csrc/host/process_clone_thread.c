/* process.clone_thread and process.clone_thread_zeroed. Fired in threads that a raw clone(CLONE_THREAD) starts, as
 * runtimes do that bring their own threads. Nobody registers their rseq area. In the first the area is initialized as
 * rseq(2) asks, so it says so; in the second it is all zero, which reads as "registered, on CPU 0". The TLS block is
 * not libc's, so libc may not be called. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "arch/x86_64_clone.h"
#include "cpu_pair.h"
#include "probe.h"
#include "steps.h"

#define STACK_SIZE (256u * 1024)

static void in_initialized(void)
{
    RSM_PROBE(process, clone_thread);
}

static void in_zeroed(void)
{
    RSM_PROBE(process, clone_thread_zeroed);
}

static void wait_until_ended(int32_t *alive)
{
    enum { FUTEX_WAIT_OPERATION = 0 };
    while (__atomic_load_n(alive, __ATOMIC_ACQUIRE))
        rsm_syscall(RSM_SYS_FUTEX, (long)alive, FUTEX_WAIT_OPERATION, 1, 0, 0, 0);
}

/* Runs start() on a thread with a zeroed TLS block that is large enough on both sides to hold the area. */
static void run(void (*start)(void), int initialize)
{
    struct rsm_registration registration;
    int32_t alive = 1;
    rsm_registration_find(&registration);
    int64_t offset = registration.symbols.rseq_offset ? *registration.symbols.rseq_offset : 0;
    size_t side = ((size_t)llabs(offset) + 8192) & ~(size_t)4095;
    uint8_t *memory = mmap(NULL, STACK_SIZE + 2 * side, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return;
    uint8_t *thread_pointer = memory + STACK_SIZE + side;
    rsm_thread_block_prepare(thread_pointer);
    if (initialize && offset)
        ((struct rsm_rseq_area *)(thread_pointer + offset))->cpu_id = RSM_CPU_ID_UNINITIALIZED;
    struct rsm_cpu_pair pair = rsm_cpu_pair_pin();
    rsm_pin(pair.there); /* not CPU 0, if that can be: 0 is what a zeroed area says */
    if (rsm_raw_thread(start, memory + STACK_SIZE, thread_pointer, &alive) > 0)
        wait_until_ended(&alive);
    rsm_cpu_pair_unpin(&pair);
    munmap(memory, STACK_SIZE + 2 * side);
}

void rsm_process_clone_thread(void)
{
    run(in_initialized, 1);
}

void rsm_process_clone_thread_zeroed(void)
{
    run(in_zeroed, 0);
}
