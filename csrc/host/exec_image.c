/* process.exec. Fired in main() of the image that execve() starts in the same process; libc may be used. */
#define _GNU_SOURCE
#include "host.h"
#include "probe_libc.h"

void rsm_after_exec_indirect(void);

int main(void)
{
    rsm_main_begins();
#ifndef RSM_ABSENT_ifunc
    rsm_after_exec_indirect();
#endif
    RSM_PROBE_LIBC(process, exec);
    return 0;
}
