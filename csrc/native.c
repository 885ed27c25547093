/* What the driver, which is Python, asks of C: the built-in subject's sum, the kernel's and libc's answers. Part of the
 * extension module, not of any probe. */
#define _GNU_SOURCE
#include <sys/auxv.h>

#include "native.h"
#include "kernel_query.h"
#include "registration.h"
#include "subject_split.h"

extern const char *rsm_weak_libc_version(void) __asm__("gnu_get_libc_version") __attribute__((weak));

const char *const rsm_native_subject_name = RSM_SPLIT_NAME;
const unsigned int rsm_native_signature = RSM_RSEQ_SIGNATURE;

uint64_t rsm_native_sum(const struct rsm_log *log, unsigned int counter, unsigned int cpus)
{
    return rsm_split_sum(log, counter, cpus);
}

int rsm_native_query_control(void)
{
    return rsm_query_control();
}

int rsm_native_believed(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    return rsm_user_registered(&registration);
}

unsigned long rsm_native_auxiliary_value(unsigned long type)
{
    return getauxval(type);
}

const char *rsm_native_libc_version(void)
{
    return rsm_weak_libc_version ? rsm_weak_libc_version() : 0;
}
