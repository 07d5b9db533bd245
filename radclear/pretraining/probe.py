"""How well the nearest training slices tell what a validation slice shows, while the encoder trains."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor

from radclear.pretraining.distributed import barrier, rank
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.progress import TableLog
from radclear.pretraining.slice_pairs import SlicePairs
from radclear.pretraining.slice_rows import SliceRow
from radclear.pretraining.trainer import LeCLTrainer

logger = logging.getLogger("radclear.training")
FILE = "probe.csv"
NEIGHBOURS = 20
TEMPERATURE = 0.07


LABELS = ("auto", "lesion", "class")


class ProbeResult(NamedTuple):
    """Figures of a k-NN probe.

    Attributes:
        balanced_accuracy: mean over classes of the share of their validation slices that are named right.
        chance: 1 / classes.
        classes: classes with validation and training slices.
        slices: validation slices.
    """

    balanced_accuracy: float
    chance: float
    classes: int
    slices: int


def knn(bank: Tensor, bank_labels: Tensor, queries: Tensor, *, n_classes: int, k: int = NEIGHBOURS) -> Tensor:
    """Class of each query after its k nearest neighbours, which vote with exp(cosine / 0.07).

    Args:
        bank: (n, d) embeddings of known class.
        bank_labels: (n,) class numbers.
        queries: (m, d).
        n_classes: number of classes.
        k: neighbours; all where there are fewer.

    Returns:
        (m,) class numbers. Weights after Wu et al., arXiv 1805.01978.
    """
    similarity = F.normalize(queries.float(), dim=1) @ F.normalize(bank.float(), dim=1).T
    nearest, places = similarity.topk(min(k, len(bank)), dim=1)
    votes = torch.zeros(len(queries), n_classes)
    votes.scatter_add_(1, bank_labels[places], ((nearest - 1) / TEMPERATURE).exp())
    return votes.argmax(dim=1)


class KNNProbe:
    """Handler of a `LeCLTrainer`: after every few epochs a k-NN probe, in `probe.csv` and the log.

    It asks whether a slice shows an annotated lesion or has no box at all, with equally many slices of both;
    or for the label of the slice. A slice is seen under all windows. Slices without an answer take no part.
    Neighbours are slices of other patients by construction: the splits share none. Where there is nothing to
    ask, nothing is probed, and the log says so.

    Attributes:
        asks: `"lesion"` or `"class"`.
        classes: the answers.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        train: SlicePairs,
        validation: SlicePairs | None,
        every_epochs: int = 1,
        max_slices: int = 1000,
        labels: str = "auto",
        batch_size: int = 32,
    ) -> None:
        """
        Args:
            folder: of the run.
            train: whose slices are the neighbours.
            validation: whose slices are asked for; None for no probe.
            every_epochs: between probes; 0 for none.
            max_slices: of each of the two, spread evenly.
            labels: `"lesion"`, `"class"`, or `"auto"`: lesion or not where both splits have slices of both.
            batch_size: views per forward pass, one per slice and window.

        Raises:
            PretrainingError: `labels` is none of these.
        """
        if labels not in LABELS:
            raise PretrainingError(f"probe_labels is {labels!r}; expected one of {', '.join(LABELS)}")
        self.folder, self.every_epochs, self.batch_size = Path(folder), every_epochs, batch_size
        self.train, self.validation = train, validation
        self._table: TableLog | None = None
        self.classes: list[str] = []
        self.asks = "class" if labels == "class" else "lesion"
        if validation is not None and every_epochs > 0:
            self.classes = self._shared_classes()
            if len(self.classes) < 2 and labels == "auto":
                self.asks = "class"
                self.classes = self._shared_classes()
        self._bank, self._asked = [], []
        if len(self.classes) > 1:
            self._bank, self._asked = (self._chosen(data, max_slices) for data in (train, validation))
        elif every_epochs > 0 and rank() == 0:
            logger.info("no probe: training and validation slices share no two answers (%s)", labels)

    def _label(self, row: SliceRow) -> str:
        return row.lesion_or_not if self.asks == "lesion" else row.label

    def _shared_classes(self) -> list[str]:
        known = [{self._label(row) for row in data.rows} - {""} for data in (self.train, self.validation)]
        return sorted(known[0] & known[1])

    def _chosen(self, data: SlicePairs, limit: int) -> list[int]:
        labels = [self._label(row) for row in data.rows]
        if self.asks == "class":
            return _spread([i for i, label in enumerate(labels) if label in self.classes], limit)
        # Equally many of both: else the many slices without a lesion would outvote the few with one.
        parts = [[i for i, label in enumerate(labels) if label == name] for name in self.classes]
        each = min(max(1, limit // 2), *map(len, parts))
        return [i for part in parts for i in _spread(part, each)]

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer."""
        if self._asked:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every_epochs), self._probe)

    def _start(self, engine: LeCLTrainer) -> None:
        if rank() == 0:
            columns = ("step", "epoch", "asks", *ProbeResult._fields)
            self._table = TableLog(self.folder / FILE, columns, after_step=engine.steps)

    def _probe(self, engine: LeCLTrainer) -> None:
        if self._table is not None:
            found = self.result(engine)
            place = {"step": engine.steps, "epoch": engine.state.epoch, "asks": self.asks}
            self._table.append({**place, **found._asdict()})
            logger.info(
                "epoch %d: %d nearest neighbours name the %s of %.1f %% of %d slices right, averaged over "
                "%d classes (chance %.1f %%)",
                engine.state.epoch, NEIGHBOURS, {"lesion": "lesion or none"}.get(self.asks, self.asks),
                100 * found.balanced_accuracy, found.slices, found.classes, 100 * found.chance,
            )  # fmt: skip
        barrier()

    def result(self, engine: LeCLTrainer) -> ProbeResult:
        """Probe the network as it is."""
        backbone = engine.momentum_network.backbone
        number = {name: code for code, name in enumerate(self.classes)}
        embeddings, labels = [], []
        backbone.eval()
        for data, chosen in ((self.train, self._bank), (self.validation, self._asked)):
            embeddings.append(self._embed(engine, data, chosen))
            labels.append(torch.tensor([number[self._label(data.rows[i])] for i in chosen]))
        backbone.train()
        named = knn(embeddings[0], labels[0], embeddings[1], n_classes=len(number))
        right = [(named[labels[1] == c] == c).double().mean() for c in labels[1].unique()]
        asked = len(right)
        return ProbeResult(float(sum(right) / asked), 1 / asked, asked, len(labels[1]))

    def _embed(self, engine: LeCLTrainer, data: SlicePairs, chosen: list[int]) -> Tensor:
        """(n, W·d): the embeddings of a slice under all windows, each of length 1, one behind the other."""
        network, parts = engine.momentum_network, []
        slices_per_pass = max(1, self.batch_size // len(data.whole_views(chosen[0])))
        for first in range(0, len(chosen), slices_per_pass):
            views = torch.stack([data.whole_views(i) for i in chosen[first : first + slices_per_pass]])
            embedded = network.embed(views.flatten(0, 1).to(engine.state.device)).cpu()
            parts.append(F.normalize(embedded, dim=1).unflatten(0, views.shape[:2]).flatten(1))
        return torch.cat(parts)


def _spread(places: list[int], limit: int) -> list[int]:
    """At most `limit` of them, spread evenly."""
    if len(places) <= limit:
        return places
    return [places[i] for i in np.linspace(0, len(places) - 1, limit).round().astype(int)]
