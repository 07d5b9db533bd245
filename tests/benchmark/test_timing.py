"""Interleaved timing."""

from __future__ import annotations

from radclear.benchmark.timing import fastest_seconds


def test_candidates_take_turns_and_warm_up_once():
    order = []
    fastest_seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 4


def test_the_fastest_call_counts():
    import time

    naps = iter([0.0, 0.05, 0.0, 0.05])
    seconds = fastest_seconds({"nap": lambda: time.sleep(next(naps))}, rounds=3)
    assert seconds["nap"] < 0.05
