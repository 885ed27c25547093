/* A program with a TLS block of a wanted size and alignment, which says where it sees its own variables, and waits for
 * the end of its input. What its arguments name it does first, to be caught at it. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SIZE
#define SIZE 8
#endif
#ifndef ALIGNMENT
#define ALIGNMENT 8
#endif
#define SIGNATURE 0x53053053
#define UNREGISTER 1

__thread char program_variable[SIZE] __attribute__((aligned(ALIGNMENT)));
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
extern long library_offset(void) __attribute__((weak));

static char own_area[64] __attribute__((aligned(64)));
static char raw_stack[16384] __attribute__((aligned(16)));
static volatile int raw_runs;

static char *thread_pointer(void)
{
    return __builtin_thread_pointer();
}

static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

/* Without a TLS block of its own: it has the creator's thread pointer, and no registration. */
static int raw_thread(void *unused)
{
    raw_runs = 1;
    for (;;)
        syscall(SYS_pause);
    return unused != 0;
}

static int unregister(void)
{
    return (int)syscall(SYS_rseq, thread_pointer() + __rseq_offset, 32, UNREGISTER, SIGNATURE);
}

/* Changes the program's own PT_TLS in memory, as a broken linker would have in the file. */
static int lie(size_t size, size_t alignment)
{
    ElfW(Phdr) *header = (void *)getauxval(AT_PHDR);
    uintptr_t page = (uintptr_t)header & ~(uintptr_t)4095;
    if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE) != 0)
        return -1;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        if (header[i].p_type == PT_TLS) {
            header[i].p_memsz = size ? size : header[i].p_memsz;
            header[i].p_align = alignment ? alignment : header[i].p_align;
        }
    return 0;
}

static int do_what(const char *what)
{
    pthread_t thread;
    if (strcmp(what, "thread") == 0)
        return pthread_create(&thread, 0, wait_for_ever, 0);
    if (strcmp(what, "unregister") == 0)
        return unregister();
    if (strcmp(what, "register-own") == 0)
        return (int)syscall(SYS_rseq, own_area, 32, 0, SIGNATURE);
    if (strcmp(what, "register-elsewhere") == 0)
        return unregister() || syscall(SYS_rseq, own_area, 32, 0, SIGNATURE);
    if (strcmp(what, "move-dtv") == 0) {
        char **dtv = *(char ***)(thread_pointer() + 8);
        dtv[2] += 64; /* dtv[1].pointer.val */
        return 0;
    }
    if (strcmp(what, "lie-size") == 0)
        return lie(4096, 0);
    if (strcmp(what, "lie-alignment") == 0)
        return lie(0, 1ul << 40);
    if (strcmp(what, "raw-thread") == 0) {
        int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
        int result = clone(raw_thread, raw_stack + sizeof(raw_stack), flags, 0);
        while (result > 0 && !raw_runs)
            sched_yield();
        return result < 0;
    }
    if (strcmp(what, "leave") == 0) { /* the main thread ends, the process does not */
        pthread_create(&thread, 0, wait_for_ever, 0);
        printf("ready\n");
        fflush(stdout);
        pthread_exit(0);
    }
    return -1;
}

int main(int count, char **arguments)
{
    char byte;
    for (int i = 1; i < count; i++)
        if (do_what(arguments[i]) != 0)
            return 1;
    printf("program %ld\n", (long)(program_variable - thread_pointer()));
    if (library_offset)
        printf("library %ld\n", library_offset());
    if (&__rseq_size)
        printf("rseq %ld %u\n", (long)__rseq_offset, __rseq_size);
    printf("pointer %ld\nready\n", (long)(intptr_t)thread_pointer());
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
