/* A library with a TLS block of a wanted size and alignment, which it reaches in the initial-exec model. */
#ifndef LIBRARY_SIZE
#define LIBRARY_SIZE 8
#endif
#ifndef LIBRARY_ALIGNMENT
#define LIBRARY_ALIGNMENT 8
#endif

__thread char library_variable[LIBRARY_SIZE]
    __attribute__((aligned(LIBRARY_ALIGNMENT), tls_model("initial-exec"), visibility("hidden")));

long library_offset(void)
{
    return (long)(library_variable - (char *)__builtin_thread_pointer());
}
