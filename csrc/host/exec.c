/* The scenario `exec` and its stage process.exec. Fired in main() of the image that execve() starts in the same
 * process; libc may be used. */
#define _GNU_SOURCE
#include <unistd.h>

#include "probe_libc.h"

int main(int argc, char **argv)
{
    static char second[] = "second";
    char *arguments[] = {argv[0], second, NULL};
    if (argc < 2) {
        execv("/proc/self/exe", arguments);
        return 1;
    }
    RSM_PROBE_LIBC(process, exec);
    return 0;
}
