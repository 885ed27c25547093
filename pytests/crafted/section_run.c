/* Runs the crafted section of section.S on x86-64 and interrupts it with a signal. Before the handler runs, the kernel
 * looks at the descriptor (kernel/rseq.c): it restarts a sound section at its abort handler ("aborted"), kills the
 * process with SIGSEGV for some descriptors, and takes others for one that the thread is not in ("ran on"). */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/rseq.h>
#include <sys/time.h>

long crafted_section(void *area, volatile uint32_t *release);

static volatile uint32_t release;

static void on_alarm(int number)
{
    (void)number;
    release = 1;
}

int main(void)
{
    struct itimerval soon = {.it_value = {.tv_usec = 5000}};
    if (!__rseq_size)
        return puts("unregistered") < 0;
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &soon, NULL);
    long aborted = crafted_section((char *)__builtin_thread_pointer() + __rseq_offset, &release);
    return puts(aborted ? "aborted" : "ran on") < 0;
}
