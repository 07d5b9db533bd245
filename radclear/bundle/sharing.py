"""What threads share: a bounded memory of recent values, and a lock for each key."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class RecentValues(Generic[Value]):
    """A mapping of bounded size that drops what was not used for longest.

    Attributes:
        limit: largest sum of the sizes.
        total: their present sum.
    """

    def __init__(self, limit: int, *, size: Callable[[Value], int]) -> None:
        """
        Args:
            limit: see the attribute; a value larger than it is not kept at all.
            size: of a value, in the unit of `limit`; must not change.
        """
        self.limit, self.total = limit, 0
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The value under a key, which counts as used now; None where there is none."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value, and drop as many as are needed for it."""
        with self._lock:
            if key in self._values:
                self.total -= self._size(self._values.pop(key))
            if self._size(value) > self.limit:
                return
            self._values[key] = value
            self.total += self._size(value)
            while self.total > self.limit:
                _, dropped = self._values.popitem(last=False)
                self.total -= self._size(dropped)


class KeyedLocks:
    """One lock per key, kept only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}
        self._guard = threading.Lock()

    @contextmanager
    def held(self, key: Hashable) -> Iterator[None]:
        """Hold the key's lock inside; others who want the same key wait."""
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = (lock, users - 1)
