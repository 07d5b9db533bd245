"""Asking about a study: fetch it or send it, ask, and show the answers where they are about its volume."""

from __future__ import annotations

from collections.abc import Callable

import slicer

from .connection import Connection
from .job import Job, Waiter
from .server import ServerError
from .studies import SCENE, SERVER
from .voxels import fingerprint

NO_SUCH_STUDY = "The server has this study no more. Press Connect to see which studies it has."


class Asking:
    """One question round after another."""

    def __init__(self, waiter: Waiter, logic, shown, *, say: Callable, failed: Callable) -> None:
        """
        Args:
            waiter: waits for the server.
            logic: writes files.
            shown: the `ShownAnswers`.
            say: called with a sentence for the reader.
            failed: called with an error.
        """
        self._waiter, self._logic, self._shown = waiter, logic, shown
        self._say, self._failed = say, failed

    def about_study(self, connection: Connection, image: str) -> None:
        """Ask about a study of the server, which is loaded into Slicer first."""
        try:
            folder = self._logic.new_folder()
        except ServerError as error:
            return self._failed(error)

        def fetched(path: str) -> None:
            volume = slicer.util.loadVolume(path)
            connection.known[fingerprint(volume)] = image
            self.about_volume(connection, volume, fetched=True)

        job = Job(lambda progress: connection.server.download(image, folder), text="Fetching the study")
        self._waiter.start(job, fetched, failed=self._not_there, left=self._left)

    def about_volume(self, connection: Connection, volume, *, fetched: bool = False) -> None:
        """Ask about a volume of the scene, which is sent first where the server does not have it.

        Args:
            connection: whom to ask.
            volume: the node.
            fetched: it was loaded from the server just now.
        """
        asked = fingerprint(volume)
        known = connection.known.get(asked)
        try:
            path = None if known else self._logic.save(volume)
        except ServerError as error:
            return self._failed(error)

        def ask(progress: Callable) -> tuple:
            image = known or connection.server.upload(path)
            return image, connection.ask(image, progress)

        def answered(found: tuple) -> None:
            image, answers = found
            connection.known[asked] = image
            choices = [(SCENE, volume.GetID()), (SERVER, image)]
            address = connection.server.address
            if self._shown.show(answers, volume, asked=asked, server=address, choices=choices):
                return self._say("Answered. Pick a key slice to jump there.")
            connection.known.pop(asked)  # whatever the server has under this id, it is not this volume

        def failed(error: Exception) -> None:
            if getattr(error, "status", 0) != 404 or not known:
                return self._failed(error)
            connection.known.pop(asked)
            if fetched:
                return self._not_there(error)
            self.about_volume(connection, volume)  # the server has it no more: it is sent again

        text = "Asking" if known else "Sending the volume to the server"
        self._waiter.start(Job(ask, text=text), answered, failed=failed, left=self._left)

    def _not_there(self, error: Exception) -> None:
        gone = getattr(error, "status", 0) == 404
        self._failed(ServerError(NO_SUCH_STUDY) if gone else error)

    def _left(self) -> None:
        self._say("Stopped waiting.")
