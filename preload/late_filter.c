/* For `exec --environment seccomp-late`: a constructor that installs a filter against rseq(2), after libc has
 * registered the main thread. Fires no stage. libc may be used. */
#include <errno.h>
#include <unistd.h>

#include "rseq/seccomp.h"

__attribute__((constructor)) static void refuse(void)
{
    static const char complaint[] = "rsm_late_filter.so: no filter can be installed\n";
    if (rsm_filter_rseq(EPERM) != 0)
        _exit(write(2, complaint, sizeof(complaint) - 1) > 0 ? 125 : 126);
}
