/* The object of dlclose.c. */
__attribute__((visibility("default"))) int *rsm_tell;

__attribute__((destructor)) static void destructor(void)
{
    if (rsm_tell)
        *rsm_tell = 1;
}
