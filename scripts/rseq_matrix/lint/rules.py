"""The rules: what each looks for, how bad it is, where that is written. `rseq-matrix inspect --rules` lists them."""

from __future__ import annotations

from rseq_matrix.documents.inspect import ERROR, NOTE, WARNING, LintFinding, LintRule

STATIC_TLS = "glibc elf/dl-reloc.c _dl_try_allocate_static_tls"
SURPLUS = "glibc elf/dl-tls.c _dl_tls_static_surplus_init; glibc manual, Dynamic Linking Tunables"
IREL = "glibc csu/libc-start.c, ARCH_SETUP_IREL before ARCH_SETUP_TLS"
INIT_TLS = "glibc elf/rtld.c: relocation before _dl_allocate_tls_init"
DESCRIPTOR = "Linux include/uapi/linux/rseq.h, struct rseq_cs"
CHECK = "Linux kernel/rseq.c, rseq_get_rseq_cs and rseq_check_flags"
TABLES = "librseq include/rseq/arch/generic/common.h: these sections tell debuggers what not to step into"
MANUAL = "glibc manual, Restartable Sequences"

_RULES = (
    LintRule("tls-size", (ERROR,), "its static TLS is larger than the surplus: dlopen fails", SURPLUS),
    LintRule("tls-alignment", (ERROR,), "its static TLS is aligned more than the process's: dlopen fails", STATIC_TLS),
    LintRule("tls-surplus", (WARNING,), "its static TLS takes much of the surplus: dlopen may fail", SURPLUS),
    LintRule("tls-static", (NOTE,), "its static TLS takes some of the surplus", SURPLUS),
    LintRule(
        "resolver-before-relocation",
        (WARNING,),
        "an IFUNC resolver needs relocations that may not have been applied when it runs",
        "glibc elf/dl-reloc.c, elf/dl-machine.h: a resolver runs when any object that names its symbol is relocated",
    ),
    LintRule(
        "resolver-in-static", (ERROR, WARNING), "an IFUNC resolver of a static program uses the thread pointer", IREL
    ),
    LintRule(
        "resolver-stack-protector",
        (ERROR, WARNING),
        "an IFUNC resolver is compiled with the stack protector",
        f"{IREL}; gcc manual, -fstack-protector and the attribute no_stack_protector",
    ),
    LintRule("resolver-tls", (WARNING,), "an IFUNC resolver uses thread-local storage", INIT_TLS),
    LintRule(
        "resolver-gd-tls",
        (ERROR, WARNING),
        "an IFUNC resolver reaches __tls_get_addr or a TLS descriptor",
        f"{INIT_TLS}; glibc elf/dl-tls.c __tls_get_addr",
    ),
    LintRule(
        "handler-gd-tls",
        (WARNING,),
        "a signal handler reaches __tls_get_addr or a TLS descriptor, which may call malloc",
        "glibc bug 16133 and elf/dl-tls.c __tls_get_addr; signal-safety(7)",
    ),
    LintRule("cs-alignment", (ERROR,), "a descriptor is not aligned to 32 bytes", DESCRIPTOR),
    LintRule("cs-version", (ERROR,), "a descriptor's version is not 0", CHECK),
    LintRule(
        "cs-flags", (ERROR,), "a descriptor has flags", "Linux commit 0190e4198e47; kernel/rseq.c rseq_check_flags"
    ),
    LintRule("cs-start", (ERROR,), "a section does not start in executable memory", CHECK),
    LintRule("cs-post-commit", (ERROR,), "a section does not end in executable memory", CHECK),
    LintRule("cs-abort", (ERROR,), "an abort handler is not in executable memory", CHECK),
    LintRule("cs-empty", (ERROR,), "a section has no instruction", DESCRIPTOR),
    LintRule("cs-abort-inside", (ERROR,), "an abort handler lies inside its own section", CHECK),
    LintRule("cs-signature", (ERROR,), "the signature does not stand directly before the abort handler", CHECK),
    LintRule("cs-system-call", (ERROR,), "a system call inside a section", "rseq(2); Linux kernel/rseq.c rseq_syscall"),
    LintRule("cs-call", (ERROR,), "a call inside a section", "rseq(2): a critical section calls no function"),
    LintRule(
        "cs-branch", (ERROR, WARNING), "a branch out of a section, to neither abort handler nor exit point", TABLES
    ),
    LintRule("cs-undecodable", (WARNING,), "bytes inside a section that are no instruction", DESCRIPTOR),
    LintRule("cs-table-missing", (ERROR,), "a descriptor is not in __rseq_cs_ptr_array", TABLES),
    LintRule("cs-table-doubled", (ERROR,), "a descriptor is twice in __rseq_cs_ptr_array", TABLES),
    LintRule("cs-table-foreign", (ERROR,), "__rseq_cs_ptr_array points to what is no descriptor", TABLES),
    LintRule("cs-exit-foreign", (ERROR,), "__rseq_exit_point_array names the start of no section", TABLES),
    LintRule("cs-no-table", (WARNING,), "descriptors without __rseq_cs_ptr_array", TABLES),
    LintRule("cs-no-sections", (WARNING,), "abort handlers without a section __rseq_cs", TABLES),
    LintRule(
        "rseq-strong-reference",
        (WARNING,),
        "a strong reference to glibc's rseq symbols: it does not load where libc lacks them",
        f"{MANUAL}; gABI, Symbol Table, STB_WEAK",
    ),
    LintRule(
        "rseq-write-read-only",
        (ERROR, WARNING),
        "a store into a field that only the kernel writes",
        "Linux include/uapi/linux/rseq.h; rseq(2): user-space reads these fields only",
    ),
    LintRule(
        "rseq-length",
        (ERROR, WARNING),
        "a registration with a length that kernels refuse",
        "Linux kernel/rseq.c, SYSCALL_DEFINE4(rseq): below ORIG_RSEQ_SIZE is EINVAL; commit ee3e3ac05c26",
    ),
    LintRule(
        "rseq-alignment", (ERROR,), "an rseq area that is not aligned to 32 bytes", "Linux kernel/rseq.c; rseq(2)"
    ),
)

RULES: dict[str, LintRule] = {rule.id: rule for rule in _RULES}


def finding(rule: str, severity: str, where: str, sentence: str) -> LintFinding:
    """Return a finding of a rule, which has to be capable of that severity."""
    if severity not in RULES[rule].severities:
        raise ValueError(f"{rule} has no severity {severity}")
    return LintFinding(rule, severity, where, sentence, RULES[rule].reference)
