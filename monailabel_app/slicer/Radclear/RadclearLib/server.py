"""Talks to a radclear server. Every error is a sentence that a reader can act on."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

import requests

from .answer import Answer

CONNECT_S = 5
SHORT_S = 30
LONG_S = 900


class ServerError(Exception):
    """The server did not do what was asked; the text says why, for the reader."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A radclear server at an address."""

    def __init__(self, address: str) -> None:
        """
        Args:
            address: such as `http://127.0.0.1:8000`; `http://` may be left out.

        Raises:
            ServerError: it is no address of a web server.
        """
        self.address = _checked_address(address)
        self._session = requests.Session()
        # A proxy for the internet has no business between a reading room and its server.
        self._session.trust_env = urlsplit(self.address).hostname not in ("127.0.0.1", "localhost", "::1")

    def asks_for_password(self) -> bool:
        """Whether readers have to sign in."""
        reply = self._send("GET", "/auth/", accept=(200, 404))
        return reply.status_code == 200 and bool(_json(reply).get("enabled"))

    def sign_in(self, name: str, password: str) -> None:
        """Get a token for a name and a password; it goes with every later request.

        Raises:
            ServerError: they are wrong, or the server cannot check them.
        """
        form = {"username": name, "password": password, "grant_type": "password"}
        reply = self._send("POST", "/auth/token", data=form, accept=(200, 401))
        if reply.status_code == 401:
            raise ServerError(
                "The server does not know this name and password. Enter both, then connect again."
            )
        token = _json(reply)
        self._session.headers["Authorization"] = f"{token['token_type']} {token['access_token']}"

    def tasks(self) -> dict[str, dict]:
        """The questions that are answered: name → what is known of the model.

        Raises:
            ServerError: it is no radclear server.
        """
        models = _json(self._send("GET", "/info/")).get("models", {})
        found = {name: model for name, model in models.items() if model.get("task") == name}
        if not found:
            raise ServerError(
                f"{self.address} is a MONAI Label server, but it has none of radclear's questions. "
                "Ask whoever runs it for the address of the radclear server."
            )
        return found

    def studies(self) -> list[str]:
        """Ids of the studies on the server."""
        reply = self._send("GET", "/datastore/", params={"output": "all"})
        return list(_json(reply).get("objects", {}))

    def download(self, image: str, folder: str) -> str:
        """Fetch the volume of a study.

        Args:
            image: its id.
            folder: where the file goes.

        Returns:
            The file's path.
        """
        info = _json(self._send("GET", "/datastore/image/info", params={"image": image}))
        path = os.path.join(folder, os.path.basename(info["name"]))
        reply = self._send("GET", "/datastore/image", params={"image": image}, timeout=LONG_S)
        with open(path, "wb") as file:
            file.write(reply.content)
        return path

    def upload(self, path: str) -> str:
        """Send a volume; the same volume again is the same study.

        Args:
            path: of a file that Slicer wrote.

        Returns:
            The study's id.
        """
        with open(path, "rb") as file:
            reply = self._send(
                "PUT", "/session/", files={"files": (os.path.basename(path), file)}, timeout=LONG_S
            )
        return _json(reply)["session_id"]

    def ask(self, task: str, image: str) -> Answer:
        """The answer to a question about a study. The first one of a study takes long, the others do not."""
        reply = self._send(
            "POST", f"/infer/{task}", params={"image": image}, data={"params": "{}"}, timeout=LONG_S
        )
        return Answer.from_reply(image, _json(reply))

    def give_verdict(self, answer: Answer, given) -> dict:
        """Send a reader's verdict on an answer.

        Args:
            answer: what it is about; a server that gave another one to this study refuses.
            given: `reader` (left out where the server knows it from the password), `verdict` (`agree`,
                `disagree` or `correct`), `classes` (with `correct`: those that are right) and `comment`.

        Returns:
            What was stored.
        """
        body = {
            "image": answer.image,
            "task": answer.task,
            "verdict": given.verdict,
            "comment": given.comment,
            "weights_sha256": answer.weights_sha256,
            "backbone_sha256": answer.backbone_sha256,
            "series_hash": answer.series_hash,
        }
        if given.verdict == "correct":
            body["classes"] = list(given.classes)
        if "Authorization" not in self._session.headers:
            body["reader"] = given.reader
        return _json(self._send("POST", "/radclear/verdicts", json=body, accept=(201,)))

    def verdicts(self, image: str, task: str) -> list[dict]:
        """The verdicts on a study that were given before, the oldest first."""
        reply = self._send("GET", "/radclear/verdicts", params={"image": image, "task": task})
        return _json(reply)["verdicts"]

    def _send(self, method: str, path: str, *, accept=(200,), timeout: float = SHORT_S, **options):
        try:
            reply = self._session.request(
                method, self.address + path, timeout=(CONNECT_S, timeout), allow_redirects=False, **options
            )
        except requests.exceptions.SSLError:
            raise ServerError(
                f"The certificate of {self.address} is not trusted here. Ask whoever runs the server."
            ) from None
        except requests.exceptions.Timeout:
            raise ServerError(
                f"{self.address} did not answer in time. It may be busy: try again in some minutes."
            ) from None
        except requests.exceptions.RequestException:
            raise ServerError(
                f"No server answers at {self.address}. Check the address, and that the server is running."
            ) from None
        if reply.status_code not in accept:
            raise ServerError(_reason(reply), status=reply.status_code)
        return reply


def _checked_address(address: str) -> str:
    address = address.strip()
    if "://" not in address:
        address = f"http://{address}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError("This is no address of a server. Expected something like http://127.0.0.1:8000.")
    return address.rstrip("/")


def _json(reply) -> dict:
    try:
        found = reply.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServerError("What answers at this address is no radclear server. Check the address.")
    return found


def _reason(reply) -> str:
    """What the server says is wrong, as a sentence."""
    if reply.status_code == 401:
        return "The server wants to know who you are. Enter your name and your password, then connect again."
    if reply.status_code == 403:
        return f"The server does not allow this. {_detail(reply)}".strip()
    if reply.status_code == 429:
        return "The server has too many questions waiting. Try again in a minute."
    detail = _detail(reply)
    if not detail:
        return f"The server failed (HTTP {reply.status_code}). Ask whoever runs it to look at its log."
    return detail


def _detail(reply) -> str:
    try:
        detail = json.loads(reply.text).get("detail", "")
    except (ValueError, AttributeError):
        return ""
    if not isinstance(detail, str) or not detail:
        return ""
    text = detail[:1].upper() + detail[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
