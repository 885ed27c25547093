/* Starts and ends a raw thread: its memory, its TLS block, its CPU. Fires no stage itself. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "arch/x86_64_clone.h"
#include "cpu_pair.h"
#include "kernel_query.h"
#include "raw_thread.h"
#include "registration.h"

#define STACK_SIZE (256u * 1024)

static void wait_until_ended(int32_t *alive)
{
    enum { FUTEX_WAIT_OPERATION = 0 };
    while (__atomic_load_n(alive, __ATOMIC_ACQUIRE))
        rsm_syscall(RSM_SYS_FUTEX, (long)alive, FUTEX_WAIT_OPERATION, 1, 0, 0, 0);
}

/* The block is large enough on both sides of the thread pointer to hold the area. */
void rsm_raw_thread_run(void (*start)(void), int initialize)
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
    rsm_pin(pair.there);
    if (rsm_raw_thread(start, memory + STACK_SIZE, thread_pointer, &alive) > 0)
        wait_until_ended(&alive);
    rsm_cpu_pair_unpin(&pair);
    munmap(memory, STACK_SIZE + 2 * side);
}
