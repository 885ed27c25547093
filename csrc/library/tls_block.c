/* An object with a block of initial-exec TLS of RSM_SIZE bytes: dlopen() takes it out of the surplus of static TLS. */
static __thread char rsm_block[RSM_SIZE] __attribute__((tls_model("initial-exec"), used, aligned(16)));

__attribute__((visibility("default"))) char *rsm_tls_block(void)
{
    return rsm_block;
}
