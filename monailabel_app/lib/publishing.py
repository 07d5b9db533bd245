"""Letting another version of a head answer; the audit has its line before it does."""

from __future__ import annotations

import threading
from typing import Any

from lib.request_check import RequestError
from lib.trainings import Training
from lib.versions import BUNDLED, VersionError
from radclear.bundle import Head

_publishing = threading.Lock()  # of two at a time the file would name one, and the other would answer


def publish(app: Any, task: str, version: str, *, user: str) -> Head:
    """Let a version of a head answer from now on; requests on their way end with the one before.

    Args:
        app: the `RadclearApp`.
        task: the question.
        version: `bundled`, or a trained one.
        user: for the audit.

    Raises:
        VersionError: the version does not load, or does not fit the bundled head.
        RequestError: 503; the disk takes nothing.
    """
    bundled = app.bundled[task]
    head = bundled if version == BUNDLED else app.versions.load(task, version)
    if (head.classes, head.backbone.weights_sha256) != (bundled.classes, bundled.backbone.weights_sha256):
        raise VersionError(
            f"version {version} of {task} has other classes, or was trained on another backbone than the "
            "one in use; train a new version"
        )
    line = {"user": user, "task": task, "version": version, "weights_sha256": head.weights_sha256}
    with _publishing:
        app.audit.append("publish", **line)
        try:
            app.versions.choose(task, version, head.weights_sha256)
        except OSError as error:
            app.audit.append("not published", **line)
            raise RequestError(
                f"version {version} was not published ({error.strerror}). Free the disk or correct the "
                "rights of the data folder, then ask again",
                status=503,
            ) from error
        for entry in app.models().values():
            if entry.head.task == task:
                entry.use(head, version)
    return head


def announce_trained(app: Any, training: Training) -> None:
    """The audit's line of a version that is whole and does not count yet."""
    report = app.versions.report_of_new(training.task, training.id)
    app.audit.append("trained", task=training.task, version=training.id, studies=report["n_studies"])
