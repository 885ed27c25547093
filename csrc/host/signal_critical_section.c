/* signal.critical_section. Fired by a timer's signal while the thread spins inside a critical section. The kernel moves
 * the interrupted address to the abort handler before it builds the handler's frame (kernel/rseq.c,
 * rseq_signal_deliver), so the handler can tell whether the section was aborted: nothing else ends the spin.
 * Async-signal-safe libc may be used. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/time.h>

#include "arch/x86_64_context.h"
#include "probe_libc.h"
#include "rseq/own_area.h"
#include "steps.h"

static struct rsm_section_range range;
static uint32_t release;

static void arm(void)
{
    struct itimerval once = {.it_value = {.tv_usec = 500}};
    setitimer(ITIMER_REAL, &once, NULL);
}

static void handler(int signal, siginfo_t *information, void *context)
{
    uint64_t address = rsm_interrupted_at(context);
    (void)signal;
    (void)information;
    int inside = range.start && address >= range.start && address < range.end;
    if (address != range.abort && !inside) {
        arm(); /* too early: not in the section yet */
        return;
    }
    RSM_PROBE_LIBC_SECTION(signal, critical_section, inside ? RSM_SECTION_CONTINUED : RSM_SECTION_ABORTED);
    __atomic_store_n(&release, 1, __ATOMIC_RELAXED);
}

void rsm_signal_critical_section(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    struct rsm_rseq_area *area = rsm_program_area();
    sigaction(SIGALRM, &action, NULL);
    arm();
    while (!__atomic_load_n(&release, __ATOMIC_RELAXED)) /* a preemption aborts the section too, before the signal */
        rsm_section_spin(area, &range, &release);
}
