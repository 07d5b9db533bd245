"""Readers who send verdicts without a pause, and a server that is killed in the middle of writing them."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest
from app_server import START_S, Server

requests = pytest.importorskip("requests", reason="requests is not installed (MONAI Label brings it)")

N_READERS = 6


class VerdictStream:
    """Readers in threads, each over a connection of its own whose replies it reads whole."""

    def __init__(self, server: Server, bodies: list[dict[str, Any]]) -> None:
        """
        Args:
            server: takes the verdicts.
            bodies: sent over and over, without `reader`.
        """
        self.server = server
        self.bodies = bodies
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.unanswered = 0
        self._lock = threading.Lock()
        self._readers = [threading.Thread(target=self._send, args=(n,)) for n in range(N_READERS)]
        for reader in self._readers:
            reader.start()

    def _send(self, number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for turn in range(100_000):
                body = {**self.bodies[(turn + number) % len(self.bodies)], "reader": f"reader {number}"}
                try:
                    url = f"{self.server.url}/radclear/verdicts"
                    reply = session.post(url, json=body, timeout=120)
                    told = reply.json()
                except requests.RequestException:
                    with self._lock:
                        self.unanswered += 1
                    return
                with self._lock:
                    if reply.status_code == 201:
                        self.acknowledged.append(told["id"])
                    else:
                        self.refused.append(reply.status_code)

    def kill_in_the_middle(self, *, at_least: int) -> list[str]:
        """Kill the server where it stands still with verdicts half stored; returns the files of these.

        Args:
            at_least: how many verdicts are acknowledged before.
        """
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if len(self.acknowledged) >= at_least:
                os.kill(self.server.process.pid, signal.SIGSTOP)
                # Until its last thread stands: one that is in the middle of a rename ends it first.
                os.waitid(os.P_PID, self.server.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                half = sorted(path.name for path in (self.server.data / "verdicts").glob("*/.*.tmp"))
                if half:
                    self.server.kill()
                    for reader in self._readers:
                        reader.join()
                    return half
                os.kill(self.server.process.pid, signal.SIGCONT)
            time.sleep(0.01)
        raise AssertionError(f"{len(self.acknowledged)} verdicts acknowledged, none seen half stored")
