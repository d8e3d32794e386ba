"""Memory of CPU tensors that is given back and asked for again, step after step."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MMAP_FROM_BYTES = 32 << 20
_KEEP_BYTES = 1 << 30
_GROW_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Tells glibc to keep up to 1 GiB of freed memory in the process; returns whether it did.

    By default glibc hands the memory of a freed tensor back to the system, which hands it out again page by page: a
    training step of a small network on a CPU had 8,600 page faults and spends an eighth of its time in them. Blocks of
    32 MiB or more, the largest bound that glibc takes, still go back. Harmless to call twice; nothing happens where
    the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES), (_M_TRIM_THRESHOLD, _KEEP_BYTES), (_M_TOP_PAD, _GROW_BYTES))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])
