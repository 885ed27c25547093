/* What an IFUNC resolver of the program reads in a thread-local variable that has an initial value: 0 before the value
 * is copied (glibc elf/dl-tls.c _dl_allocate_tls_init comes after relocation). Prints what the resolver read, then what
 * main() reads. The designs of 2019 and 2020 put the rseq area into such a variable. */
#include <stdio.h>

static __thread volatile int initialized __attribute__((tls_model("initial-exec"))) = -1;
static int seen = 1;

static void target(void)
{
}

static void (*resolve(void))(void)
{
    seen = initialized;
    return target;
}

void indirect(void) __attribute__((ifunc("resolve")));

int main(void)
{
    indirect();
    printf("%d %d\n", seen, initialized);
    return 0;
}
