"""A server that the reader is connected to, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .server import Server


@dataclass
class Connection:
    """A server with its questions and studies.

    Attributes:
        server: signed in where it wants that.
        tasks: names of its questions.
        images: ids of its studies.
        known: fingerprint of a volume in the scene → the id that this server has it under.
    """

    server: Server
    tasks: list
    images: list
    known: dict = field(default_factory=dict)

    def ask(self, image: str, progress) -> list:
        """All questions about a study, one after the other: the first takes long, the others share its work.

        Args:
            image: the study's id.
            progress: called with how far it is.

        Returns:
            Answer and earlier verdicts of each question.
        """
        found = []
        for number, task in enumerate(self.tasks, start=1):
            progress(f"Reading the study: {task.replace('_', ' ')} ({number} of {len(self.tasks)})")
            answer = self.server.ask(task, image)
            found.append((answer, self.server.verdicts(image, task)))
        return found


def connect(server: Server, *, name: str, password: str) -> tuple:
    """Learn what a server answers and which studies it has.

    Args:
        server: where.
        name, password: of the reader; used where the server wants them.

    Returns:
        Whether the server wants a password; the connection, None where it wants one and there is none.
    """
    asks = server.asks_for_password()
    if asks and not password:
        return asks, None
    if asks:
        server.sign_in(name, password)
    return asks, Connection(server, list(server.tasks()), server.studies())
