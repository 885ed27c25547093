/* An experiment, not a stage: prints the version of the libc that a program linked here really runs on. */
#include <gnu/libc-version.h>
#include <stdio.h>

int main(void)
{
    return puts(gnu_get_libc_version()) < 0;
}
