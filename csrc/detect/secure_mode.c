/* Exits with 0 if the kernel has set AT_SECURE, which makes ld.so ignore tunables and preloads. */
#include <sys/auxv.h>

int main(void)
{
    return !getauxval(AT_SECURE);
}
