/* The scenario `debugged` and its stages debugger.single_step and debugger.breakpoint: a critical section
 * under a debugger. gdb (scripts/rseq_matrix/environments/catalogue.py) stops at the functions below and
 *
 *   - steps, instruction by instruction, from rsm_debugger_begins() to rsm_debugger_ends(). Each stop aborts the
 *     section that it happens in, so no try commits;
 *   - has a breakpoint at rsm_debugged_inside, in the middle of the section, and continues over it. The instruction
 *     under the breakpoint is executed elsewhere (displaced stepping), the kernel finds the thread outside of the
 *     section and clears rseq_cs; the thread returns to the section and commits, unprotected, though it was stopped.
 *
 * libc may be used. */
#define _GNU_SOURCE
#include "arch/x86_64_debugged.h"
#include "host.h"
#include "probe_libc.h"
#include "rseq/own_area.h"

#define TRIES 16

volatile int rsm_debugger_stopped; /* gdb sets it when it stops at rsm_debugged_inside */

/* For gdb to stop at; not inlined, not merged. */
__attribute__((noinline, noclone)) void rsm_debugger_begins(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline, noclone)) void rsm_debugger_ends(void)
{
    __asm__ volatile("nop" ::: "memory");
}

__attribute__((noinline, noclone)) void rsm_breakpoint_begins(void)
{
    __asm__ volatile("nop; nop" ::: "memory");
}

static uint32_t add_once(struct rsm_rseq_area *area, uint64_t *counter)
{
    return rsm_debugged_add(area, *(volatile uint32_t *)&area->cpu_id_start, counter) == RSM_COMMIT_ABORTED
               ? RSM_SECTION_ABORTED
               : RSM_SECTION_CONTINUED;
}

int main(void)
{
    static struct rsm_rseq_area unregistered; /* not registered: used where no area is */
    static uint64_t counter;
    rsm_main_begins();
    struct rsm_rseq_area *area = rsm_program_area();
    area = area ? area : &unregistered;

    uint32_t section = RSM_SECTION_ABORTED;
    rsm_debugger_begins();
    for (int tries = 0; tries < TRIES && section == RSM_SECTION_ABORTED; tries++)
        section = add_once(area, &counter);
    rsm_debugger_ends();
    if (rsm_stage_enabled(RSM_STAGE_debugger_single_step))
        RSM_PROBE_LIBC_SECTION(debugger, single_step, section);

    rsm_breakpoint_begins();
    section = add_once(area, &counter);
    if (rsm_debugger_stopped && rsm_stage_enabled(RSM_STAGE_debugger_breakpoint))
        RSM_PROBE_LIBC_SECTION(debugger, breakpoint, section);
    return 0;
}
