/* What Python calls in C, through cffi. In the subset of C that cffi's cdef() accepts: no include, no guard. */

extern const struct rsm_stage_info rsm_stage_table[];
extern const unsigned int rsm_stage_count;

/* The built-in subject's sum of a counter, over the fast path's parts, one for each of the first `cpus` CPUs, and the
 * fallback's. */
uint64_t rsm_native_sum(const struct rsm_log *log, unsigned int counter, unsigned int cpus);

/* The name of the built-in subject, and the signature that libc registers with. */
extern const char *const rsm_native_subject_name;
extern const unsigned int rsm_native_signature;

/* errno of rseq(2) for a query about no area: EINVAL where the kernel has rseq, ENOSYS where not, else a filter's
 * answer. */
int rsm_native_query_control(void);

/* Whether this very program's thread looks registered to a library. */
int rsm_native_believed(void);

/* getauxval(3). */
unsigned long rsm_native_auxiliary_value(unsigned long type);

/* gnu_get_libc_version(3), or null where the libc that Python runs on is not glibc. */
const char *rsm_native_libc_version(void);
