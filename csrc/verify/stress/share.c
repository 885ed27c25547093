/* Makes fork children work on the same per-CPU data as their parent: the subject's writable data, which would be copied
 * at fork(), are moved into shared memory at the same address, before any thread exists. Then children that add while
 * nothing else runs prove that it worked. A subject whose data lie elsewhere (on the heap, in a mapping of its
 * own) fails the proof; then its data are restored, and fork children are checked on their own. */
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq/own_registration.h"
#include "verify/stress/stress.h"
#include "verify/supervised.h"

#define REGIONS_MAX 8
#define CPUS_PROVEN 4

struct region {
    uint8_t *start;
    size_t length;
    int protection;
    uint8_t *before; /* a copy, to go back to */
};

static struct region region[REGIONS_MAX];
static int regions;

static uint64_t page_floor(uint64_t address)
{
    return address & ~((uint64_t)sysconf(_SC_PAGESIZE) - 1);
}

static uint64_t page_ceiling(uint64_t address)
{
    return page_floor(address + (uint64_t)sysconf(_SC_PAGESIZE) - 1);
}

static int holds(const struct dl_phdr_info *object, uint64_t address)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uint64_t start = object->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && address >= start && address - start < segment->p_memsz)
            return 1;
    }
    return 0;
}

/* What the dynamic linker made read-only is not data: it rounds the range down at both ends (glibc elf/dl-reloc.c,
 * _dl_protect_relro). */
static uint64_t end_of_relro(const struct dl_phdr_info *object, uint64_t start)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uint64_t begin = page_floor(object->dlpi_addr + segment->p_vaddr);
        uint64_t end = page_floor(object->dlpi_addr + segment->p_vaddr + segment->p_memsz);
        if (segment->p_type == PT_GNU_RELRO && begin <= start && end > start)
            return end;
    }
    return start;
}

static int find_regions(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    if (!holds(object, (uint64_t)subject.add))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_W))
            continue;
        uint64_t address = object->dlpi_addr + segment->p_vaddr;
        uint64_t start = end_of_relro(object, page_floor(address));
        uint64_t end = page_ceiling(address + segment->p_memsz);
        if (start < end && regions < REGIONS_MAX)
            region[regions++] = (struct region){(uint8_t *)start, end - start,
                                                PROT_READ | PROT_WRITE | (segment->p_flags & PF_X ? PROT_EXEC : 0), 0};
    }
    return 1;
}

/* Page by page, and only what is not zero: most of the data of a subject with room for many CPUs was never touched. */
static void copy(uint8_t *to, const uint8_t *from, size_t length)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t offset = 0; offset < length; offset += page) {
        size_t i = 0;
        while (i < page && !from[offset + i])
            i++;
        if (i < page)
            memcpy(to + offset, from + offset, page);
    }
}

/* Puts a mapping of another kind, with the contents of `from`, over a region. */
static int replace(const struct region *old, int kind, const uint8_t *from)
{
    uint8_t *new = mmap(NULL, old->length, old->protection, kind | MAP_ANONYMOUS, -1, 0);
    if (new == MAP_FAILED)
        return 0;
    copy(new, from, old->length);
    return mremap(new, old->length, old->length, MREMAP_MAYMOVE | MREMAP_FIXED, old->start) == old->start;
}

static int share_regions(void)
{
    for (int i = 0; i < regions; i++)
        if (!replace(&region[i], MAP_SHARED, region[i].start))
            return 0;
    return 1;
}

static int save_regions(void)
{
    for (int i = 0; i < regions; i++) {
        region[i].before =
            mmap(NULL, region[i].length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (region[i].before == MAP_FAILED)
            return 0;
        copy(region[i].before, region[i].start, region[i].length);
    }
    return 1;
}

/* Only the last proof wrote anything, and only children did: what they wrote into shared memory is undone. */
static void restore_regions(void)
{
    for (int i = 0; i < regions; i++)
        replace(&region[i], MAP_PRIVATE, region[i].before);
}

static void drop_copies(void)
{
    for (int i = 0; i < regions; i++)
        if (region[i].before && region[i].before != MAP_FAILED)
            munmap(region[i].before, region[i].length);
}

/* Lets a fork child work once, on this CPU: as it is, or after it has unregistered what it inherited. */
static int child_works(int unregistered, struct rsm_subject_node *node)
{
    int status = -1;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        die_with(parent);
        if (unregistered)
            unregister_area();
        subject.add(STRESS_PROOF_COUNTER, 1);
        if (node)
            subject.push(node);
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static const char *disproof(struct stress_book *book, int unregistered)
{
    struct rsm_subject_node *node = loaded_subject_has_stacks(&subject) ? &stress->node[0] : NULL;
    uint64_t before = subject.sum(STRESS_PROOF_COUNTER);
    if (!child_works(unregistered, node))
        return "a fork child did not end normally";
    if (subject.sum(STRESS_PROOF_COUNTER) != before + 1)
        return "the parent's sum did not show an add of a fork child: the subject's data are not in its own .data and "
               ".bss";
    book->added[STRESS_PROOF_COUNTER]++;
    book->adds++;
    if (node && subject.pop() != node)
        return "the parent did not pop what a fork child had pushed: the subject's stacks are not in its own .data and "
               ".bss";
    return NULL;
}

static const char *first_disproof(struct stress_book *book)
{
    const char *reason = NULL;
    for (unsigned i = 0; i < stress->cpus && i < CPUS_PROVEN && !reason; i++) {
        cpu_pin(0, cpu_number(i));
        for (int unregistered = 0; unregistered < 2 && !reason; unregistered++)
            reason = disproof(book, unregistered);
    }
    cpu_unpin(0);
    return reason;
}

/* Called when no node is in any stack. */
void stress_share(struct stress_writer *writer)
{
    const char *reason = NULL;
    struct stress_book before = writer->book[STRESS_BODY];
    dl_iterate_phdr(find_regions, NULL);
    if (!save_regions())
        reason = "its data could not be copied";
    else if (!share_regions())
        reason = "its data could not be moved into shared memory";
    else if ((reason = first_disproof(&writer->book[STRESS_BODY]))) {
        restore_regions();
        writer->book[STRESS_BODY] = before;
    }
    drop_copies();
    stress->sharing = reason ? STRESS_OWN : STRESS_SHARED;
    snprintf(stress->sharing_reason, sizeof(stress->sharing_reason), "%s", reason ? reason : "");
}
