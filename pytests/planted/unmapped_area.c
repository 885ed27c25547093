/* A thread that sleeps while the memory of its rseq area is unmapped: the kernel kills the process when it wakes up. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

extern const ptrdiff_t __rseq_offset;

static void *page;
static pthread_barrier_t registered;

static void *thread(void *unused)
{
    syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, 1, 0x53053053);
    syscall(SYS_rseq, page, 32, 0, 0x53053053);
    pthread_barrier_wait(&registered);
    pause();
    return unused;
}

int main(void)
{
    pthread_t other;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_barrier_init(&registered, NULL, 2);
    if (page == MAP_FAILED || pthread_create(&other, NULL, thread, NULL) != 0)
        return 1;
    pthread_barrier_wait(&registered);
    usleep(200000); /* until the thread sleeps */
    munmap(page, 4096);
    if (write(1, "ready\n", 6) == 6)
        pause();
    return 0;
}
