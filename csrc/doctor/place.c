/* Looks at rseq in main() and in a second thread of a small program: what libc says, which area the kernel has
 * registered, whether cpu_id follows the thread. */
#define _GNU_SOURCE
#include <gnu/libc-version.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "doctor/report.h"
#include "rseq/allowed_cpus.h"
#include "rseq/own_registration.h"

static unsigned count;

/* Moves between two CPUs and compares the area's cpu_id and sched_getcpu() with getcpu(2). */
static void follow(const char *place, const struct rsm_rseq_area *area)
{
    int area_follows = 1, libc_follows = 1;
    for (unsigned i = 0; i < 2 && count > 1; i++) {
        cpu_pin(0, cpu_number(i));
        unsigned here = cpu_now();
        area_follows &= rsm_area_cpu_id(area) == here;
        libc_follows &= sched_getcpu() == (int)here;
    }
    cpu_unpin(0);
    if (count < 2)
        return;
    report(place, "follows", "%d", area_follows);
    report(place, "sched_getcpu_follows", "%d", libc_follows);
}

static void look(const char *place)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    report(place, "control", "%d", rsm_query_control());
    if (registration.area) {
        uint32_t length = rsm_query_area(registration.area, &error);
        report(place, "length", "%u", length);
        report(place, "cpu_id", "%d", (int)rsm_area_cpu_id(registration.area));
        report(place, "cpu_id_start", "%u", *(volatile uint32_t *)&registration.area->cpu_id_start);
    }
    if (rsm_query_control() == RSM_EINVAL)
        report(place, "occupied", "%d", kernel_has_area());
    if (registration.area && (int)rsm_area_cpu_id(registration.area) >= 0)
        follow(place, registration.area);
}

static void *thread(void *unused)
{
    look("thread");
    return unused;
}

static void report_libc(void)
{
    struct rsm_libc_symbols symbols;
    rsm_libc_symbols_find(&symbols);
    report("libc", "version", "%s", gnu_get_libc_version());
    report("libc", "secure", "%lu", getauxval(AT_SECURE));
    if (!symbols.rseq_offset || !symbols.rseq_size || !symbols.rseq_flags)
        return;
    report("libc", "offset", "%ld", (long)*symbols.rseq_offset);
    report("libc", "size", "%u", *symbols.rseq_size);
    report("libc", "flags", "%u", *symbols.rseq_flags);
}

int main(void)
{
    pthread_t other;
    count = cpus_find();
    report_libc();
    look("main");
    report("thread", "create", "%d", pthread_create(&other, NULL, thread, NULL));
    pthread_join(other, NULL);
    report("libc", "done", "1");
    return 0;
}
