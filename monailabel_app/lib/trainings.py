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
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

#: What the child is told, beside what a job holds: few verdicts, so fewer passes than the bundled heads had
#: (docs/how-to/train-heads.md), and no key that a hospital's own head may lack, as that of the mean weights.
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
        trouble: why a version that was trained does not count, or does not answer.
    """

    id: str
    task: str
    publish: bool
    folder: Path
    status: str = "RUNNING"
    started: float = field(default_factory=time.time)
    ended: float | None = None
    trouble: str = ""
    process: subprocess.Popen | None = None

    def lines(self) -> list[str]:
        """What the child printed last."""
        file = self.folder / "training.log"
        if not file.is_file():
            return []
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
        lines = (_PREFIX.sub("", line).strip() for line in text.splitlines())
        shown = [line for line in lines if line and not line.startswith(_SETTINGS_DUMP)][-SHOWN_LINES:]
        return [*shown, self.trouble] if self.trouble else shown


class Trainings:
    """Starts, stops and finishes trainings."""

    def __init__(
        self,
        folder: str | Path,
        versions: HeadVersions,
        *,
        made: Callable[[Training], None],
        publish: Callable[[Training], None],
    ) -> None:
        """
        Args:
            folder: for jobs; what a killed server left there is removed.
            versions: that trainings add to.
            made: called with a training whose version is whole, before that counts; where it raises, it does
                not count and is removed.
            publish: called to let a version answer that counts, where that was asked for.
        """
        self.folder = Path(folder)
        self.versions = versions
        self._made = made
        self._publish = publish
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
        last = self.last
        return last if last is not None and last.status == "RUNNING" else None

    def start(
        self, task: str, job: Mapping[str, Any], *, publish: bool, announce: Callable[[str], None]
    ) -> Training:
        """Start a training.

        Args:
            task: the question.
            job: for `lib.retraining`, without `output` and `settings`.
            publish: see `Training`.
            announce: called with the version's name before anything is done; where it raises, nothing is.

        Raises:
            RequestError: 429; one is running.
        """
        with self._lock:
            if running := self.running:  # one look: it may end any moment
                raise RequestError(
                    f"a training of {running.task} is running; wait for its end, or stop it with "
                    "DELETE /train/",
                    status=429,
                )
            version, output = self.versions.start(task)
            announce(version)
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
            self._made(training)
            self.versions.keep(training.task, training.id)
        except (OSError, RadclearError) as error:
            training.trouble = f"the version does not count and was removed: {error}"
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
            if whole and training.publish:
                self._publish(training)
        except Exception as error:  # the version is there; that it does not answer is said, not lost
            training.trouble = f"the version is there, but does not answer: {error}"
            logger.exception("version %s of %s is there, but was not published", training.id, training.task)
            training.status = "ERROR"
        if training.status == "RUNNING":
            training.status = "DONE" if whole else "ERROR"
        logger.info("training of %s, version %s: %s", training.task, training.id, training.status)
