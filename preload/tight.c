/* For the environment static-tls-tight: a constructor that uses up the surplus of static TLS, which the dynamic
 * linker keeps for objects with initial-exec TLS that dlopen() loads (glibc elf/dl-tls.c, _dl_tls_static_surplus_init).
 * It opens objects with blocks of 16 KiB, 8 KiB, ... 32 bytes, each while it fits, and then one more that must not fit.
 * Fires no stage. libc may be used. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LARGEST (16 * 1024)
#define SMALLEST 32

static void *open_block(int size, const char *suffix)
{
    static const int home; /* of this object */
    char name[4096];
    Dl_info self;
    if (!dladdr(&home, &self) || !strrchr(self.dli_fname, '/'))
        return NULL;
    int length = (int)(strrchr(self.dli_fname, '/') - self.dli_fname);
    snprintf(name, sizeof(name), "%.*s/rsm_tls_%d%s.so", length, self.dli_fname, size, suffix);
    return dlopen(name, RTLD_NOW);
}

__attribute__((constructor)) static void exhaust(void)
{
    for (int size = LARGEST; size >= SMALLEST; size /= 2)
        open_block(size, "");
    if (open_block(SMALLEST, "_more")) {
        static const char complaint[] = "rsm_tight.so: the surplus of static TLS is not exhausted\n";
        _exit(write(2, complaint, sizeof(complaint) - 1) > 0 ? 1 : 2);
    }
}
