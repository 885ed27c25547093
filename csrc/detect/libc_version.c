/* An experiment, not a stage: prints the version of the libc that a program linked here really runs on, where libc can
 * say it. */
#include <stdio.h>
#ifndef RSM_ABSENT_libc_version
#include <gnu/libc-version.h>
#endif

int main(void)
{
#ifndef RSM_ABSENT_libc_version
    return puts(gnu_get_libc_version()) < 0;
#else
    return 0;
#endif
}
