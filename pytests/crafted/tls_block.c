/* tls-size, tls-alignment, tls-surplus, tls-static: a shared object with a thread-local block of its own.
 *
 * With the initial-exec model the block has to lie in the static TLS, at a fixed distance from the thread pointer. A
 * library that is loaded at start gets its place there; for one that is opened later glibc keeps a surplus of 1664
 * bytes (elf/dl-tls.c, _dl_tls_static_surplus_init), and the alignment is what the process started with. Where the
 * block does not fit, dlopen() fails: "cannot allocate memory in static TLS block". */
#ifndef SIZE
#define SIZE 64
#endif
#ifndef ALIGNMENT
#define ALIGNMENT 16
#endif
#ifndef MODEL
#define MODEL "initial-exec"
#endif

__thread char crafted_block[SIZE] __attribute__((aligned(ALIGNMENT), tls_model(MODEL))) = {1};

char *crafted_address(void);
char *crafted_address(void)
{
    return crafted_block;
}
