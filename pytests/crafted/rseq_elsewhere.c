/* Uses an rseq area that another object has, under the name that librseq gave it before glibc had one. */
extern __thread struct {
    unsigned int cpu_id_start, cpu_id;
} __rseq_abi;

unsigned int crafted_cpu(void);
unsigned int crafted_cpu(void)
{
    return __rseq_abi.cpu_id;
}
