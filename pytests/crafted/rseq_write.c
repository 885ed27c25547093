/* rseq-write-read-only: code that stores to a field of struct rseq that is the kernel's (cpu_id_start, cpu_id, node_id,
 * mm_cid; linux/rseq.h). Until the kernel writes it again, whoever trusts it works on the wrong CPU's data, and kernels
 * that check these fields kill the process. The good twin stores to rseq_cs, which is the program's. */
#include <stddef.h>
#include <stdint.h>

#pragma weak __rseq_offset
extern const ptrdiff_t __rseq_offset;

#ifndef FIELD
#define FIELD 8 /* rseq_cs */
#endif

void crafted_store(void);
void crafted_store(void)
{
    char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
#ifdef WHOLE
    __builtin_memset(area, 0, 32); /* by the registers of the vector unit, where there is one */
#elif defined(SWAP)
    uint32_t expected = 0;
    __atomic_compare_exchange_n((uint32_t *)(area + FIELD), &expected, 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
#else
    *(volatile uint32_t *)(area + FIELD) = 0;
#endif
}
