/* behaviour LENGTH: finds when the kernel writes the ids of an area that is registered with LENGTH bytes. libc's area
 * is unregistered, one of this program's own is registered, cpu_id_start is overwritten with a number that is no CPU's,
 * and then something happens after which the kernel has rewritten it, left it, or killed this process:
 *
 *   sleep      a context switch, on the same CPU: the ids are the same afterwards
 *   signal     the delivery of a signal, on the same CPU
 *   migration  the move to another CPU: the ids change
 *
 * Linux before 6.19 rewrites at all three; from there on only at the third (commit 566d8015f7ee); from 7.0.10 it
 * depends on the length: 32 bytes as before 6.19, and above that only the third, which kills a process that
 * wrote (commits b9eac6a9d93c, 82f572449cfe, 99428157dcf3; Documentation/userspace-api/rseq.rst, "Optimized RSEQ V2").
 * The kernel's own test of the legacy behaviour sleeps and signals itself, too (selftests/rseq, commit fdf4eb632683).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "doctor/report.h"
#include "rseq/allowed_cpus.h"
#include "rseq/own_registration.h"

/* Linux 7.0, commit 28621ec2d46c; libc headers may be older. */
#define SLICE_EXTENSION 79
#define SLICE_EXTENSION_GET 1
#define SLICE_EXTENSION_SET 2
#define SLICE_EXTENSION_ENABLE 1

#define MARK 0x80005a5au /* no CPU has this number */

static union {
    struct rsm_rseq_area area;
    uint8_t room[512];
} own __attribute__((aligned(512))) = {.area = {.cpu_id = RSM_CPU_ID_UNINITIALIZED}};

static void nothing(int number)
{
    (void)number;
}

static void sleep_a_moment(void)
{
    const struct timespec moment = {0, 1000000};
    nanosleep(&moment, NULL);
}

static void signal_self(void)
{
    raise(SIGUSR1);
}

static void migrate(void)
{
    cpu_pin(0, cpu_other(cpu_now(), 0));
}

static void attempt(const char *name, void (*happen)(void))
{
    volatile uint32_t *start = &own.area.cpu_id_start;
    report("kernel", "trying", "%s", name); /* what kills comes after this line */
    *start = MARK;
    happen();
    report("kernel", name, "%s", *start == MARK ? "kept" : *start == cpu_now() ? "rewritten" : "other");
    *start = own.area.cpu_id;
}

static void slice_extension(void)
{
    int enabled = prctl(SLICE_EXTENSION, SLICE_EXTENSION_GET, 0, 0, 0);
    report("kernel", "slice_get", "%d", enabled < 0 ? -errno : enabled);
    int set = prctl(SLICE_EXTENSION, SLICE_EXTENSION_SET, SLICE_EXTENSION_ENABLE, 0, 0);
    report("kernel", "slice_set", "%d", set < 0 ? errno : 0);
}

int main(int argc, char **argv)
{
    uint32_t length = argc > 1 ? (uint32_t)atoi(argv[1]) : RSM_RSEQ_ORIGINAL_SIZE;
    if (length > sizeof(own))
        return 2;
    unsigned count = cpus_find();
    cpu_pin(0, cpu_number(0));
    unregister_area();
    report("kernel", "cpus", "%u", count);
    report("kernel", "control", "%d", rsm_query_control());
    int error = rsm_rseq(&own, length, 0, RSM_RSEQ_SIGNATURE);
    report("kernel", "answer", "%d", error);
    if (error)
        return 0;
    report("kernel", "cpu_id", "%d", (int)rsm_area_cpu_id(&own.area));
    report("kernel", "flags", "%u", own.area.flags);
    slice_extension();
    signal(SIGUSR1, nothing);
    attempt("sleep", sleep_a_moment);
    attempt("signal", signal_self);
    if (count > 1)
        attempt("migration", migrate);
    report("kernel", "done", "1");
    return 0;
}
