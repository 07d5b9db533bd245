"""Fair timing on a machine that does other things too: interleaved repeats, and the fastest of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def fastest_seconds(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    synchronize: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Time several functions in turns, so that a busy moment of the machine hits all of them alike.

    Args:
        candidates: name → function without arguments. Each is called once unmeasured to warm up.
        rounds: how often each is measured.
        synchronize: called before the clock is read, for example `torch.cuda.synchronize`.

    Returns:
        name → seconds of its fastest call.
    """
    wait = synchronize or (lambda: None)
    for call in candidates.values():
        call()
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, call in candidates.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            best[name] = min(best[name], time.perf_counter() - start)
    return best
