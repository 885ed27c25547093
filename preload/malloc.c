/* preload.malloc. Fired by the first call of malloc() in the process, by any object; csrc/host/allocating.c
 * makes it before any constructor runs. The object's relocations are done, but libc may not be called: it may
 * not be initialized yet, and it may call malloc() in turn.
 *
 * The allocator returns pieces of one static arena and never reuses one, which is enough for the short program that is
 * run with it. */
#include <stddef.h>
#include <stdint.h>

#include "probe.h"

#define EXPORT __attribute__((visibility("default")))
#define ARENA_SIZE (8u << 20)
#define ALIGNMENT 16u

static uint8_t arena[ARENA_SIZE] __attribute__((aligned(4096)));
static size_t arena_used;

/* Before each piece stands its size, for realloc(). */
static void *allocate(size_t alignment, size_t size)
{
    if (alignment < ALIGNMENT)
        alignment = ALIGNMENT;
    if (size > ARENA_SIZE / 2 || alignment > ARENA_SIZE / 2)
        return NULL;
    size_t start = __atomic_fetch_add(&arena_used, size + alignment + ALIGNMENT, __ATOMIC_RELAXED);
    size_t piece = (start + ALIGNMENT + alignment - 1) & ~(alignment - 1);
    if (piece + size > ARENA_SIZE)
        return NULL;
    *(size_t *)(arena + piece - ALIGNMENT) = size;
    return arena + piece;
}

EXPORT void *malloc(size_t size)
{
    RSM_PROBE(preload, malloc);
    return allocate(ALIGNMENT, size);
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : allocate(ALIGNMENT, total); /* the arena is zero */
}

EXPORT void *realloc(void *old, size_t size)
{
    uint8_t *piece = allocate(ALIGNMENT, size);
    if (!old || !piece)
        return piece;
    size_t old_size = *(size_t *)((uint8_t *)old - ALIGNMENT);
    for (size_t i = 0; i < old_size && i < size; i++)
        piece[i] = ((uint8_t *)old)[i];
    return piece;
}

EXPORT void *memalign(size_t alignment, size_t size)
{
    return allocate(alignment, size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return allocate(alignment, size);
}

EXPORT int posix_memalign(void **piece, size_t alignment, size_t size)
{
    enum { ENOMEM_VALUE = 12 };
    *piece = allocate(alignment, size);
    return *piece ? 0 : ENOMEM_VALUE;
}

EXPORT void free(void *piece)
{
    (void)piece;
}
