"""Batch inference: one study after another, on whatever device the app has; each result is stored."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.utils.async_tasks.task import AsyncTask

from lib.infers import question
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)


class StudyBatch(BatchInferTask):
    """MONAI Label's task asks for GPUs, and for a study that fails it ends; this one does neither."""

    def __call__(self, request: dict[str, Any], datastore: Datastore, infer: Callable) -> dict[str, Any]:
        """Answer for every study that the request selects, and store the results under the model's name.

        Args:
            request: `model`; `images` as MONAI Label has it; `max_batch_size`, where not 0.
            datastore: the store.
            infer: the app's.

        Returns:
            Study → `{"tag": …}`, or `{"failed": reason}`.
        """
        model = request["model"]
        selected = sorted(self.get_images({**request, "label_tag": model}, datastore))
        most = int(request.get("max_batch_size") or 0)
        selected = selected[:most] if most else selected
        asked = {"model": model, "save_label": True}
        asked |= {name: request[name] for name in ("client_id", "user") if name in request}
        outcomes: dict[str, Any] = {}
        for number, image in enumerate(selected, start=1):
            try:
                infer({**asked, "image": image}, datastore)
                outcomes[image] = {"tag": model}
            except Exception as error:  # whatever is wrong with one study, the others go on
                foreseen = isinstance(error, RadclearError)
                outcomes[image] = {"failed": str(error) if foreseen else f"{type(error).__name__}: {error}"}
                datastore.failures.record(image, question(model), error)
                logger.debug("%s", image, exc_info=not foreseen)
            state = outcomes[image].get("failed", "stored")
            logger.info("%s: %d of %d done, %s: %s", model, number, len(selected), image, state)
        failed = sum("failed" in outcome for outcome in outcomes.values())
        logger.info(
            "%s: %d studies, %d stored, %d failed", model, len(selected), len(selected) - failed, failed
        )
        return outcomes


def running_batch() -> dict[str, Any] | None:
    """The batch that runs. MONAI Label's own look at it fails where the batch ends at that moment."""
    tasks = AsyncTask.status("batch_infer", all=True)[0] or ()
    return next((task for task in list(tasks) if task["status"] == "RUNNING"), None)


def end_with_server() -> None:
    """End a running batch when the server is told to stop; MONAI Label would wait for its end.

    Call in the main thread, after the server's own signal handlers are there: they are called afterwards.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stop(signum: int, frame: Any, before: Any = before) -> None:
            AsyncTask.stop("batch_infer")
            if callable(before):
                before(signum, frame)

        signal.signal(number, stop)
