/* An rseq area of the program's own in each thread, as librseq keeps one where libc registers none. */
#ifndef RSM_RSEQ_OWN_AREA_H
#define RSM_RSEQ_OWN_AREA_H

#include "registration.h"

/* Registers this thread's. Returns 0 or the kernel's answer. */
int rsm_own_area_register(void);

/* Unregisters it, if it is registered. Returns 0 or the kernel's answer. */
int rsm_own_area_unregister(void);

/* The area that is registered for this thread, as far as the program can know: its own, or libc's; null where none. */
struct rsm_rseq_area *rsm_program_area(void);

#endif
