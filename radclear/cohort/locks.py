"""Locks between processes that a killed process cannot leave behind.

The kernel drops a flock with the process that holds it, so a lock file that a dead process left is just an
empty file. Whoever holds the lock removes the file before letting go; the inode is compared after locking
because a file may have been removed between opening and locking it.
"""

from __future__ import annotations

import os
from pathlib import Path

from radclear.errors import RadclearError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class FileLock:
    """An exclusive lock between processes (and between two `FileLock`s of one process)."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: the lock file; made when needed, in a folder that exists.
        """
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock.

        Args:
            wait: until it is free; otherwise return at once.

        Returns:
            Whether the lock is held now; False only without `wait`.
        """
        if fcntl is None:
            raise RadclearError("this system has no flock; write embedding stores on Linux, macOS or WSL")
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if self._is_still_at_path(descriptor):
                    self._descriptor = descriptor
                    return True
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Let go; the lock file is removed."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_still_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False
