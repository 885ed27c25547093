/* What holds at main and in a second thread of a small program that is started here and now: what libc says, whose area
 * the kernel has, whether cpu_id follows the thread. */
#define _GNU_SOURCE
#include <gnu/libc-version.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "rseq/allowed_cpus.h"
#include "rseq/own_registration.h"
#include "doctor/report.h"

static unsigned count;

/* In the area, and in libc's own function; the kernel is asked for the truth. */
static void follow(const char *who, const struct rsm_rseq_area *area)
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
    report(who, "follows", "%d", area_follows);
    report(who, "sched_getcpu_follows", "%d", libc_follows);
}

static void look(const char *who)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    report(who, "control", "%d", rsm_query_control());
    if (registration.area) {
        uint32_t length = rsm_query_area(registration.area, &error);
        report(who, "length", "%u", length);
        report(who, "cpu_id", "%d", (int)rsm_area_cpu_id(registration.area));
        report(who, "cpu_id_start", "%u", *(volatile uint32_t *)&registration.area->cpu_id_start);
    }
    if (rsm_query_control() == RSM_EINVAL)
        report(who, "occupied", "%d", kernel_has_area());
    if (registration.area && (int)rsm_area_cpu_id(registration.area) >= 0)
        follow(who, registration.area);
}

static void *thread(void *unused)
{
    look("thread");
    return unused;
}

static void say_what_libc_says(void)
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
    say_what_libc_says();
    look("main");
    report("thread", "create", "%d", pthread_create(&other, NULL, thread, NULL));
    pthread_join(other, NULL);
    report("libc", "done", "1");
    return 0;
}
