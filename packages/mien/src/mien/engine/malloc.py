"""Tuning glibc's allocator for image processing in many threads."""

import ctypes
import sys

M_ARENA_MAX = -8  # a parameter of mallopt, from malloc.h


def limit_malloc_arenas() -> None:
    """Let all threads share one arena; call before threads are started. No effect unless libc is glibc.

    Threads allocate and free images and tensors of all sizes, and with an arena per thread each arena fragments on its
    own: 45 MB of 470 on two cores, and more with each thread. (A lower mmap threshold would avoid the fragmentation,
    but its page faults cost 12 % of the time per image.)
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Give memory that is free, such as that of a model that was unloaded, back to the system. Blocks for milliseconds.

    No effect unless libc is glibc, which otherwise keeps what lies below memory that is in use.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
