/* A program that overwrites cpu_id_start a thousand times a second, and counts the SIGRTMIN that it gets, until it gets
 * SIGTERM. */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

extern const ptrdiff_t __rseq_offset;

static volatile sig_atomic_t count, stop;

static void note(int number)
{
    if (number == SIGTERM)
        stop = 1;
    else
        count++;
}

int main(void)
{
    const struct timespec moment = {0, 1000000};
    volatile uint32_t *area = (volatile uint32_t *)((char *)__builtin_thread_pointer() + __rseq_offset);
    signal(SIGRTMIN, note);
    signal(SIGTERM, note);
    if (write(1, "ready\n", 6) != 6)
        return 1;
    while (!stop) {
        area[0] = 0x80000000u;
        nanosleep(&moment, NULL);
    }
    return printf("%d\n", (int)count) < 0;
}
