/* Whether the kernel says that this program is to be run with care: AT_SECURE. */
#include <sys/auxv.h>

int main(void)
{
    return !getauxval(AT_SECURE);
}
