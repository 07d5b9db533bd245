"""Which study should be read next: where a verdict teaches most."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.audit import last_answers
from lib.request_check import RequestError
from lib.studies import UnknownStudyError
from radclear.bundle import Head
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

MOST_COMPARED = 50  # studies that one request embeds


def next_study(strategy: Callable, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
    """A study to look at: its id and what the store tells of it; empty where there is none.

    Args:
        strategy: chooses.
        request: for it.
        datastore: the store.
    """
    while sample := strategy(dict(request), datastore):
        try:
            return {**sample, **datastore.get_image_info(sample["id"])}
        except UnknownStudyError:
            logger.info("the study that was chosen is gone meanwhile; another one is")
    return {}


class StudyStrategy(Strategy):
    """A way to choose among the studies without a verdict on a question."""

    def __init__(self, app: Any, description: str) -> None:
        """
        Args:
            app: the `RadclearApp`.
            description: for people.
        """
        super().__init__(description)
        self.app = app

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The study to read, None where all have a verdict.

        Args:
            request: `task`, the first that is served when omitted.
            datastore: the store.

        Raises:
            RequestError: the strategy cannot choose; says what is missing.
        """
        heads = self.app.heads()
        task = request.get("task") or next(iter(heads))
        judged = self.app.verdicts.newest(task)
        left = [key for key in datastore.list_images() if key not in judged]
        if not left:
            return None
        key, more = self.choose(left, heads[task])
        return {"id": key, "task": task, "n_unread": len(left), **more}

    def choose(self, keys: list[str], head: Head) -> tuple[str, dict[str, Any]]:
        """One of some studies, and what speaks for it."""
        raise NotImplementedError


class RandomStudy(StudyStrategy):
    """Any study, each as likely."""

    def choose(self, keys: list[str], head: Head) -> tuple[str, dict[str, Any]]:
        return keys[int(torch.randint(len(keys), ()))], {}


class HighestEntropy(StudyStrategy):
    """The study whose answer is least certain, among those that were answered."""

    def choose(self, keys: list[str], head: Head) -> tuple[str, dict[str, Any]]:
        answers = last_answers(self.app.audit.path, task=head.task, weights_sha256=head.weights_sha256)
        found = {key: entropy_bits(answers[key]["answer"], kind=head.kind) for key in keys if key in answers}
        if not found:
            raise RequestError(
                f"none of {len(keys)} studies without a verdict was answered by the weights in use, so none "
                f"can be least certain; ask POST /batch/infer/{head.task} first, or take the strategy random",
                status=409,
            )
        key = max(found, key=found.__getitem__)
        return key, {"entropy_bits": round(found[key], 4), "n_answered": len(found)}


class LowestAgreement(StudyStrategy):
    """The study on whose slices the folds of a head agree least where to look; for one request at a time."""

    def __init__(self, app: Any, description: str) -> None:
        super().__init__(app, description)
        self._comparing = threading.Lock()

    def choose(self, keys: list[str], head: Head) -> tuple[str, dict[str, Any]]:
        members = getattr(head.aggregator, "members", None)
        if members is None or len(members) < 2:
            raise RequestError(
                f"the head of {head.task} is one model, so no folds can agree or not; deploy an ensemble "
                "(radclear crossval), or take the strategy entropy or random",
                status=409,
            )
        if not self._comparing.acquire(blocking=False):  # it may take minutes, and threads are few
            raise RequestError(
                "studies are being compared for another request; try again in some seconds", status=429
            )
        try:
            found = self._compared(keys, head)
        finally:
            self._comparing.release()
        if not found:
            raise RequestError("no study without a verdict could be read", status=409)
        key = min(found, key=found.__getitem__)
        return key, {"agreement": round(found[key], 4), "n_compared": len(found)}

    def _compared(self, keys: list[str], head: Head) -> dict[str, float]:
        found: dict[str, float] = {}
        for key in keys[:MOST_COMPARED]:
            store = self.app.datastore()
            try:
                source = store.studies.ready(store.source(key))
                found[key] = self.app.answers.look(source, head, lambda feats: agreement(head, feats))
            except RadclearError:
                continue  # asking for its answer says what is wrong with it
        return found


def entropy_bits(probabilities: Mapping[str, float], *, kind: str) -> float:
    """Shannon's entropy of an answer in bits: of the classes, or summed over classes that may be together.

    Args:
        probabilities: class → probability.
        kind: of the head.
    """

    def bits(p: float) -> float:
        return -p * math.log2(p) if p > 0 else 0.0

    if kind == "multilabel":
        return sum(bits(p) + bits(1 - p) for p in probabilities.values())
    return sum(bits(p) for p in probabilities.values())


def agreement(head: Head, feats: torch.Tensor) -> float:
    """How much attention all folds share: the sum over instances of the smallest; 1 where all are equal.

    Args:
        head: an ensemble.
        feats: (n, d) embeddings of a study.
    """
    device = next(head.aggregator.parameters()).device
    attentions = []
    with torch.inference_mode():
        for member in head.aggregator.members:
            member.eval()(feats.unsqueeze(0).to(device), None)
            attentions.append(member.attention[0].double().cpu())
    return float(torch.stack(attentions).min(dim=0).values.sum())


def strategies(app: Any) -> dict[str, Callable]:
    """All strategies by name."""
    return {
        "random": RandomStudy(app, "any study without a verdict"),
        "entropy": HighestEntropy(app, "the study whose answer is least certain"),
        "agreement": LowestAgreement(app, "the study on which the folds of the head agree least"),
    }
