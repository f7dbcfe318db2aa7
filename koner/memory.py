"""Memory that a process keeps: what one training step frees, the next one takes again."""

from __future__ import annotations

import ctypes
import os
from functools import cache

# From <malloc.h> and <sys/mman.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_HUGE_PAGES = 14
_HUGE_PAGE = 1 << 21  # bytes


@cache
def keep_memory() -> bool:
    """Makes glibc keep what is freed, in huge pages of the kernel where it has them; tells whether it does.

    By default a large block goes back to the system when it is freed, and the next one comes page by page: a fifth to a
    third of a training step's time on a CPU. For processes that end with their work, since others get nothing back
    before. Does nothing where the C library is another.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (raises)
    except (AttributeError, OSError, TypeError):
        return False
    kept = libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1)
    # Only what is mapped already can be asked for in huge pages. None of it is taken before it is written to.
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if block := libc.malloc(size):
        first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(first, (block + size - first) // _HUGE_PAGE * _HUGE_PAGE, _HUGE_PAGES)
        libc.free(block)
    return bool(kept)
