"""One training at a time, in a child process; the server goes on answering."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.request_check import RequestError
from lib.versions import HeadVersions

logger = logging.getLogger(__name__)

#: What the child is told, beside what a job holds; as docs/how-to/train-heads.md trains the bundled heads.
SETTINGS = {"max_epochs": 80, "learning_rate": 0.0005, "patience": 20, "bags_per_batch": 16}
SHOWN_LINES = 50
_PREFIX = re.compile(r"^[\d-]{10} [\d:,]{12} - \w+ - ")  # of MONAI's log
_SETTINGS_DUMP = ("> ", "---")  # that MONAI's run starts with


@dataclass
class Training:
    """A training and how it is going.

    Attributes:
        id: version that it makes.
        task: the question.
        status: `RUNNING`, `DONE`, `ERROR` or `STOPPED`, as MONAI Label calls them.
        started, ended: seconds since 1970.
        publish: whether the new version answers when it is whole.
        folder: with the job and what the child printed.
    """

    id: str
    task: str
    publish: bool
    folder: Path
    status: str = "RUNNING"
    started: float = field(default_factory=time.time)
    ended: float | None = None
    process: subprocess.Popen | None = None

    def lines(self) -> list[str]:
        """What the child printed last."""
        file = self.folder / "training.log"
        if not file.is_file():
            return []
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
        lines = (_PREFIX.sub("", line).strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith(_SETTINGS_DUMP)][-SHOWN_LINES:]


class Trainings:
    """Starts, stops and finishes trainings."""

    def __init__(
        self, folder: str | Path, versions: HeadVersions, *, finished: Callable[[Training], None]
    ) -> None:
        """
        Args:
            folder: for jobs; what a killed server left there is removed.
            versions: that trainings add to.
            finished: called in a thread with every training that ended, its version kept where it is whole.
        """
        self.folder = Path(folder)
        self.versions = versions
        self.finished = finished
        self.last: Training | None = None
        self._lock = threading.Lock()

    def clean(self) -> list[str]:
        """Remove what trainings left that were killed with the server; returns their versions."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        return self.versions.clean()

    @property
    def running(self) -> Training | None:
        """The training that is going on."""
        return self.last if self.last is not None and self.last.status == "RUNNING" else None

    def start(self, task: str, job: Mapping[str, Any], *, publish: bool) -> Training:
        """Start a training.

        Args:
            task: the question.
            job: for `lib.retraining`, without `output` and `settings`.
            publish: see `Training`.

        Raises:
            RequestError: 429; one is running.
        """
        with self._lock:
            if self.running is not None:
                raise RequestError(
                    f"a training of {self.running.task} is running; wait for its end, or stop it with "
                    "DELETE /train/",
                    status=429,
                )
            version, output = self.versions.start(task)
            training = Training(version, task, publish, self.folder / f"{task}-{version}")
            training.folder.mkdir()
            file = training.folder / "job.json"
            file.write_text(json.dumps({**job, "output": str(output), "settings": SETTINGS}))
            with open(training.folder / "training.log", "wb") as log:
                training.process = subprocess.Popen(
                    [sys.executable, "-m", "lib.training_child", str(os.getpid()), str(file)],
                    cwd=Path(__file__).resolve().parents[1],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            self.last = training
        threading.Thread(target=self._wait, args=(training,), name="training", daemon=True).start()
        return training

    def stop(self) -> Training | None:
        """Stop the training that is going on; None where there is none."""
        with self._lock:
            training = self.running
            if training is None or training.process.poll() is not None:
                return None  # it has ended by itself
            training.status = "STOPPED"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(training.process.pid, signal.SIGKILL)
        return training

    def _keep(self, training: Training) -> bool:
        try:
            self.versions.keep(training.task, training.id)
        except OSError:
            logger.exception("version %s of %s could not be kept", training.id, training.task)
            return False
        return True

    def _wait(self, training: Training) -> None:
        code = training.process.wait()
        with self._lock:
            whole = code == 0 and training.status == "RUNNING" and self._keep(training)
            if not whole:
                self.versions.discard(training.task, training.id)
        for name in ("labels.csv", "embeddings", "job.json"):  # names of studies and links to them
            path = training.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        training.ended = time.time()
        try:
            if whole:
                self.finished(training)
        except Exception:  # the version is there; that it could not be published is said, not lost
            logger.exception("version %s of %s is there, but was not published", training.id, training.task)
            training.status = "ERROR"
        if training.status == "RUNNING":
            training.status = "DONE" if whole else "ERROR"
        logger.info("training of %s, version %s: %s", training.task, training.id, training.status)
