/* The ledger: what was added in this process so far, by copy of the subject and by stage. A subject's counters are the
 * process's own memory: copied by fork(), shared by vfork(), gone after execve(). So is the ledger: private memory at a
 * fixed address, where every later probe finds it, in any object. */
#ifndef RSM_LEDGER_H
#define RSM_LEDGER_H

#include "arch.h"
#include "record.h"

#define RSM_LEDGER_ADDRESS 0x10725e900000ul
#define RSM_LEDGER_MAGIC 0x72656764656c6d72ul
#define RSM_LEDGER_BOOKS 8

struct rsm_book { /* of one copy: a namespace has its own */
    uint64_t base;
    uint64_t added[RSM_STAGE_MAX];
};

struct rsm_ledger {
    uint64_t magic;
    struct rsm_book book[RSM_LEDGER_BOOKS];
};

/* Whether there is memory: msync(2) answers ENOMEM where there is none. */
static inline int rsm_ledger_mapped(void)
{
    enum { MS_ASYNC_FLAG = 1 };
    return rsm_syscall(RSM_SYS_MSYNC, RSM_LEDGER_ADDRESS, sizeof(struct rsm_ledger), MS_ASYNC_FLAG, 0, 0, 0) == 0;
}

/* Null where something else lies there. The address is a hint, and where the memory is then is what counts: valgrind,
 * qemu-user and gVisor do not know MAP_FIXED_NOREPLACE. */
static inline struct rsm_ledger *rsm_ledger_open(void)
{
    enum { PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22 };
    struct rsm_ledger *ledger = (struct rsm_ledger *)RSM_LEDGER_ADDRESS;
    if (!rsm_ledger_mapped()) {
        long address = rsm_syscall(RSM_SYS_MMAP, RSM_LEDGER_ADDRESS, sizeof(struct rsm_ledger), PROT_READ_WRITE,
                                   MAP_PRIVATE_ANONYMOUS, -1, 0);
        if (address != (long)RSM_LEDGER_ADDRESS)
            return 0;
        ledger->magic = RSM_LEDGER_MAGIC;
    }
    return ledger->magic == RSM_LEDGER_MAGIC ? ledger : 0;
}

/* Null where there are more copies than books. */
static inline struct rsm_book *rsm_ledger_book(struct rsm_ledger *ledger, uint64_t base)
{
    for (int i = 0; i < RSM_LEDGER_BOOKS; i++) {
        if (!ledger->book[i].base)
            ledger->book[i].base = base;
        if (ledger->book[i].base == base)
            return &ledger->book[i];
    }
    return 0;
}

#endif
