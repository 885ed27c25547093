/* own_registration [thread]: registers an area of its own at main, and in a thread, as librseq does without glibc's. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/syscall.h>

static __thread struct {
    uint32_t words[8];
} own __attribute__((aligned(32))) = {{0, 0xffffffffu}};

static long register_own(void)
{
    return syscall(SYS_rseq, &own, 32, 0, 0x53053053);
}

static void *thread(void *unused)
{
    register_own();
    if (write(1, "ready\n", 6) == 6)
        pause();
    return unused;
}

int main(void)
{
    pthread_t other;
    if (register_own() != 0)
        return 1;
    pthread_create(&other, NULL, thread, NULL);
    return pthread_join(other, NULL);
}
