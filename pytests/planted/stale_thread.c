/* A program whose main thread's registration is taken back while cpu_id keeps a CPU number: stale. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/syscall.h>

extern const ptrdiff_t __rseq_offset;

int main(void)
{
    uint32_t *area = (uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset);
    syscall(SYS_rseq, area, 32, 1, 0x53053053);
    area[1] = 0;
    for (;;)
        if (write(1, "ready\n", 6) != 6 || pause())
            return 0;
}
