/* gnu_get_libc_version(), by which a record proves the libc that it ran on. */
#include <gnu/libc-version.h>

int main(void)
{
    return gnu_get_libc_version()[0] == 0;
}
