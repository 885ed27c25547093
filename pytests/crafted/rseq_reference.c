/* rseq-strong-reference: a strong reference to __rseq_offset@GLIBC_2.35. On an older glibc, which does not have it, the
 * object does not load: "version `GLIBC_2.35' not found". A weak one is 0 there, and the code can see that. */
#include <stddef.h>

#ifndef BAD
#pragma weak __rseq_offset
#pragma weak __rseq_size
#endif
extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;

ptrdiff_t crafted_offset(void);
ptrdiff_t crafted_offset(void)
{
#ifndef BAD
    if (!&__rseq_size)
        return 0;
#endif
    return __rseq_size ? __rseq_offset : 0;
}
