/* An experiment, not a stage: prints __rseq_offset, where libc has one. Its sign tells where the rseq area lies: behind
 * the thread pointer is the thread's descriptor (struct pthread), before it are the TLS blocks. */
#include <stddef.h>
#include <stdio.h>

extern const ptrdiff_t rsm_weak_rseq_offset __asm__("__rseq_offset") __attribute__((weak));

int main(void)
{
    const ptrdiff_t *volatile offset = &rsm_weak_rseq_offset;
    return offset ? printf("%td\n", *offset) < 0 : 0;
}
