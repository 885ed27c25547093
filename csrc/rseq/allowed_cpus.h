/* The CPUs that this process may use, and moving threads between them. */
#ifndef RSM_RSEQ_ALLOWED_CPUS_H
#define RSM_RSEQ_ALLOWED_CPUS_H

unsigned cpus_find(void);                     /* to be called first; returns how many there are */
int cpu_number(unsigned which);               /* modulo how many there are */
int cpu_other(unsigned than, unsigned which); /* the same where only one is allowed */
unsigned cpu_now(void);
void cpu_pin(int tid, int cpu);
void cpu_unpin(int tid);

#endif
