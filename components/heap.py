"""How a rank on a CPU holds its memory: glibc keeps what a step frees, in huge pages.

A training step asks for the same large tensors again and again. By default glibc gives each back to the system, and the
next one is faulted in anew, zeroed, in pages of 4 KiB: thousands of page faults a step, and more pages than the
processor keeps addresses of. Both were measured (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes
import os
import platform

_MALLOPT = {-1: -1, -2: 64 << 20, -3: 1 << 30}
"""glibc's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (malloc.h), in bytes."""
_BLOCK_BYTES, _NUM_BLOCKS = 512 << 20, 16
"""How far the heap grows ahead of its use: 8 GiB of addresses, and no memory, in requests below M_MMAP_THRESHOLD."""
_MADV_HUGEPAGE = 14


def keep_memory() -> None:
    """Has glibc keep what is freed, and the kernel make its heap of huge pages; another C library is left alone."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in _MALLOPT.items():
        libc.mallopt(option, value)
    _use_huge_pages(libc)


def _use_huge_pages(libc: ctypes.CDLL) -> None:
    """What `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` does for a process that is yet to start.

    The kernel is told of addresses, so the heap grows first. Where it has no huge page free, or knows none, pages stay
    small: nothing fails.
    """
    address = ctypes.c_void_p
    libc.sbrk.restype = libc.malloc.restype = address
    libc.sbrk.argtypes, libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_ssize_t], [ctypes.c_size_t], [address]
    libc.madvise.argtypes = [address, ctypes.c_size_t, ctypes.c_int]
    start = libc.sbrk(0)
    for block in [libc.malloc(_BLOCK_BYTES) for _ in range(_NUM_BLOCKS)]:
        libc.free(block)
    start += -start % os.sysconf("SC_PAGESIZE")
    libc.madvise(start, libc.sbrk(0) - start, _MADV_HUGEPAGE)
