"""Let the C library keep freed memory, which large activations on the CPU gain much from; opt-in.

By default glibc gives large blocks back to the system as soon as they are freed, so that every activation of
every layer is mapped and zeroed page by page again. Two `mallopt` settings end that. They hold for the whole
process, which then keeps its peak memory until it ends: right for a program that embeds studies, not for a
library to do by itself.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1


def keep_freed_memory() -> str | None:
    """Stop glibc's malloc from returning memory to the system, from now on and for this whole process.

    Returns:
        None where it is in force, else the reason why not (another C library, another system).
    """
    library = platform.libc_ver()[0]
    if platform.system() != "Linux" or library != "glibc":
        return f"needs Linux with glibc, this is {platform.system()} with {library or 'another C library'}"
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    if mallopt(M_MMAP_MAX, 0) != 1 or mallopt(M_TRIM_THRESHOLD, NEVER) != 1:
        return "glibc refused the setting"
    return None
