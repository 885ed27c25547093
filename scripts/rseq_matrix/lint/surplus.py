"""The static TLS surplus that glibc reserves at start for objects that come later, and the tunables that change it."""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix.errors import UsageError

NAMESPACES, OPTIONAL = "glibc.rtld.nns", "glibc.rtld.optional_static_tls"
PER_NAMESPACE = 288  # LIBC_IE_TLS + OTHER_IE_TLS (glibc elf/dl-tls.c); the rest of the formula cancels out
MOST_NAMESPACES = 16  # DL_NNS
LARGEST = 1 << 30


@dataclass(frozen=True)
class Surplus:
    """The tunables that the surplus is made of, with their defaults (glibc elf/dl-tunables.list)."""

    namespaces: int = 4
    optional: int = 512

    @property
    def size(self) -> int:
        """Return the surplus in bytes, of a process without audit modules (each of them adds a namespace)."""
        return PER_NAMESPACE * self.namespaces + self.optional

    def optional_for(self, size: int) -> int:
        """Return a value of glibc.rtld.optional_static_tls with which a block of `size` bytes fits."""
        return -(-(size - PER_NAMESPACE * self.namespaces) // 512) * 512 + 512


DEFAULT = Surplus()


def parse_tunables(text: str) -> Surplus:
    """Return what GLIBC_TUNABLES makes of the surplus; other tunables do not matter. Raises UsageError."""
    values = {NAMESPACES: DEFAULT.namespaces, OPTIONAL: DEFAULT.optional}
    for part in text.split(":"):
        name, equals, number = part.partition("=")
        if name not in values:
            if part and not equals:
                raise UsageError(f"'{part}' is not a tunable: GLIBC_TUNABLES is name=value, separated by colons")
            continue
        try:
            values[name] = int(number, 0)
        except ValueError:
            raise UsageError(f"the value of the tunable {name} must be a number, not '{number}'") from None
        most = MOST_NAMESPACES if name == NAMESPACES else LARGEST
        if not (1 if name == NAMESPACES else 0) <= values[name] <= most:
            raise UsageError(f"the tunable {name} cannot be {number}: glibc ignores a value outside its range")
    return Surplus(values[NAMESPACES], values[OPTIONAL])
