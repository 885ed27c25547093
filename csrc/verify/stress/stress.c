/* verify/stress MODE SECONDS: the preloaded subject's operations from threads that are registered and threads that are
 * not, from children of vfork() and fork(), signal handlers, and threads that come and go, all on the same counters,
 * while signals are sent to them and threads are moved between CPUs. Prints what was attempted and what the subject
 * holds, as JSON. The driver sets the variable that the mode is about (GLIBC_TUNABLES). */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "verify/seconds.h"
#include "verify/stress/stress.h"
#include "verify/supervised.h"

static const char *const mode_name[STRESS_MODES] = {"default", "tunable-off", "half-registered"};

static int find_mode(const char *name)
{
    for (int mode = 0; mode < STRESS_MODES; mode++)
        if (strcmp(name, mode_name[mode]) == 0)
            return mode;
    return -1;
}

static int usage(const char *problem)
{
    fprintf(stderr, "stress: %s\nusage: stress default|tunable-off|half-registered SECONDS\n", problem);
    return 2;
}

int main(int count, char **argument)
{
    int mode = count == 3 ? find_mode(argument[1]) : -1;
    double seconds = count == 3 ? strtod(argument[2], NULL) : 0;
    if (mode < 0 || seconds <= 0)
        return usage("a mode and a time are needed");
    if (!loaded_subject_find(&subject, RTLD_DEFAULT))
        return usage("no subject is preloaded");
    stress = mmap(NULL, sizeof(*stress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stress == MAP_FAILED)
        return usage("no memory");
    stress->mode = (uint32_t)mode;
    stress->seconds = seconds;
    stress->cpus = cpus_find();
    stress->deadline = seconds_now() + seconds + STRESS_HANG_SECONDS;
    struct supervised outcome = supervise(stress_work, &stress->deadline);
    stress_report(&outcome);
    return 0;
}
