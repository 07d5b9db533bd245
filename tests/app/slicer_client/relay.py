"""One address behind which the server changes, as a tunnel or a proxy that is set up anew."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Takes connections at a port of its own and hands them on to `target`."""

    def __init__(self, target: int) -> None:
        """
        Args:
            target: port of the server.
        """
        self.target = target
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def switch(self, target: int) -> None:
        """Another server from now on; connections to the first are cut."""
        self.target = target
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
