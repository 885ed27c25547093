/* A program in seccomp's strict mode: read(2), write(2) and _exit(2), and no filter. */
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void)
{
    int ends[2];
    char byte;
    if (pipe(ends) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0 || write(1, "ready\n", 6) != 6)
        return 1;
    return read(ends[0], &byte, 1) == 1;
}
