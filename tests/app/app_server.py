"""A MONAI Label server with the app, in a process of its own: real sockets, real files, phantoms."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 900  # seconds; about eight where the machine has nothing else to do
#: Suffix of the name → slices of the studies that only the shared server has.
LONG_STUDIES = {"": 384, "_0": 24, "_1": 24, "_2": 8, "_3": 8}
#: What must not get out: patients' names in folder names, and what is in DICOM headers of the studies.
TRACES = ("DOE", "JANE", "ROE", "RICHARD", "PHANTOM-", "2.25.")

#: Notes whom a Python process speaks to, from its first line on.
_LISTENER = """
import os, sys

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        host = args[1][0] if event == "socket.connect" and isinstance(args[1], tuple) else args[0]
        said(str(host) if isinstance(host, str | bytes | None) else "local socket")

def said(line):
    with open(os.environ["CONNECTIONS"], "a") as file:
        file.write(line + chr(10))

said("listening")
sys.addaudithook(note)
"""

needs_monailabel = pytest.mark.skipif(
    importlib.util.find_spec("monailabel") is None,
    reason="MONAI Label is not installed (it is in the pinned `label` environment only)",
)


@dataclass
class Server:
    """A running server and where its things are."""

    process: subprocess.Popen
    url: str
    port: int
    studies: Path
    data: Path
    output: Path

    @property
    def printed(self) -> str:
        """What the server wrote to its standard output and error so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def connections(self) -> list[str]:
        """Hosts that the server of the fixture `server` has connected to or looked up, and its children."""
        return (self.output.parent / "connections.txt").read_text(encoding="utf-8").splitlines()

    @property
    def app_log(self) -> Path:
        return self.output.parent / "app" / "logs" / "app.log"

    def request(self, method: str, path: str, **options):
        """An HTTP request through no proxy."""
        import requests

        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, **{"timeout": 600, **options})

    def infer(self, entry: str, image: str, *, params: str = "{}", **options):
        """POST /infer as the stock clients do; `output` decides what comes back."""
        query = {"image": image, **options.pop("query", {})}
        return self.request("POST", f"/infer/{entry}", params=query, data={"params": params}, **options)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port() -> int:
    """A port that nobody listens at, and that the system gives nobody who does not ask for this one.

    A server takes it seconds later; meanwhile a port that the system chose could be given to somebody else: a
    client's connection, or a server of the tests beside these.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)  # below those that Linux hands out
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def until(condition: Callable[[], object], *, every_s: float = 0.05) -> None:
    """Wait until something holds, as long as a slow machine may take.

    Args:
        condition: is asked until it holds.
        every_s: seconds between two questions.
    """
    end = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(every_s)


@contextmanager
def held_audit(server: Server) -> Iterator[None]:
    """Nothing is answered meanwhile: what runs waits for its line, however fast or slow the machine is."""
    with open(server.data / "audit.jsonl", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def launch(folder: Path, studies: Path, *conf: str, environment: dict[str, str] | None = None) -> Server:
    """Start a server and return at once.

    Args:
        folder: for the app's copy (MONAI Label writes into it), the output, and the app's data.
        studies: folder to serve.
        conf: KEY, VALUE, KEY, VALUE …
        environment: more variables.
    """
    app = folder / "app"
    if not app.exists():
        shutil.copytree(
            ROOT / "monailabel_app", app, ignore=shutil.ignore_patterns("__pycache__", "logs", "model", "bin")
        )
    port = free_port()
    pairs = [("data", str(folder / "data")), ("bundles", str(ROOT / "bundles")), ("device", "cpu")]
    pairs += list(zip(conf[::2], conf[1::2], strict=True))
    options = [word for pair in pairs for word in ("--conf", *pair)]
    command = [
        sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies),
        "--host", "127.0.0.1", "--port", str(port), *options,
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    output = folder / f"output-{port}.txt"
    with open(output, "w") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**variables, **(environment or {})},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    return Server(process, f"http://127.0.0.1:{port}", port, studies, folder / "data", output)


def wait_until_up(server: Server) -> Server:
    """Wait until the server takes connections; its output is in the error where it does not."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.process.poll() is not None:
            pytest.fail(f"the server ended with {server.process.returncode}:\n{server.printed[-4000:]}")
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            return server
        except OSError:
            time.sleep(0.1)
    server.kill()
    pytest.fail(f"the server did not start within {START_S} s:\n{server.printed[-4000:]}")


def write_small_studies(folder: Path) -> Path:
    """A DICOM folder, a NIfTI file, and a folder that is broken, all called like patients."""
    from pydicom import dcmread

    from radclear.phantom import make_phantom, write_dicom, write_nifti

    phantom = make_phantom(3, n_slices=24, size=64)
    write_dicom(phantom, folder / "DOE^JANE_0")
    by_height = sorted(
        (folder / "DOE^JANE_0").glob("*.dcm"), key=lambda file: dcmread(file).ImagePositionPatient[2]
    )
    for file in (*by_height[:8], *by_height[16:]):
        file.unlink()
    few = slice(8, 16)
    affine = phantom.affine.copy()
    affine[:3, 3] += affine[:3, 2] * few.start
    write_nifti(replace(phantom, hu=phantom.hu[few], affine=affine), folder / "ROE_RICHARD.nii.gz")
    (folder / "DOE^BROKEN").mkdir()
    (folder / "DOE^BROKEN" / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nothing else")
    return folder


def write_long_study(path: Path, *, n_slices: int, seed: int = 1) -> Path:
    """A NIfTI file with so many slices that an inference takes a while: a phantom over and over."""
    from radclear.phantom import make_phantom, write_nifti

    phantom = make_phantom(seed, n_slices=24, size=64)
    times = -(-n_slices // 24)
    return write_nifti(replace(phantom, hu=np.tile(phantom.hu, (times, 1, 1))[:n_slices]), path)


@pytest.fixture(scope="session")
def small_studies(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return write_small_studies(folder)


@pytest.fixture(scope="session")
def long_study() -> str:
    """The id of the study on the shared server whose inference takes some seconds."""
    from radclear.ct import study_key

    return study_key("DOE^LONG.nii")


@pytest.fixture(scope="session")
def server(tmp_path_factory, small_studies):
    """One server for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("server")
    studies = folder / "studies"
    shutil.copytree(small_studies, studies)
    for seed, (name, n_slices) in enumerate(LONG_STUDIES.items()):
        write_long_study(studies / f"DOE^LONG{name}.nii", n_slices=n_slices, seed=seed)
    (folder / "listener").mkdir()
    (folder / "listener" / "sitecustomize.py").write_text(_LISTENER)
    heard = {
        "PYTHONPATH": f"{folder / 'listener'}{os.pathsep}{ROOT}",
        "CONNECTIONS": str(folder / "connections.txt"),
    }
    running = wait_until_up(launch(folder, studies, "waiting", "3", "upload_mib", "4", environment=heard))
    yield running
    running.stop()
