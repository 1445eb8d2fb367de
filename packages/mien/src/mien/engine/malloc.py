"""How glibc's allocator is set up for a server of images."""

import ctypes
import sys

M_ARENA_MAX = -8  # a parameter of mallopt, from malloc.h


def limit_malloc_arenas() -> None:
    """Let all threads share one arena; call before threads are started. Does nothing where libc is not glibc.

    Images and tensors of all sizes come and go in several threads, and with an arena per thread each one fragments on
    its own: 45 MB of 470 on two cores, more with each thread. (A lower mmap threshold would avoid the fragmentation,
    but its page faults cost 12 % of an image's time.)
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
