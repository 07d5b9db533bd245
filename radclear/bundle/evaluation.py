"""Evaluate a head on the labelled embeddings of a split: predictions, AUROC, hits of key slices."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from radclear.aggregation import key_slices, slice_attention
from radclear.bundle.boxes import read_boxes
from radclear.bundle.loaded import KEY_SLICE_DISTANCE, Head
from radclear.bundle.seen_patients import seen_patients
from radclear.evaluation import auroc, key_slice_hit_rate, write_predictions
from radclear.results import write_atomically

RANKED_SLICES = 5  # in the prediction table, for hit rates up to hit@5


class EvaluationWriter:
    """Collects what the engine predicts; at the end writes `<task>_predictions.csv`, `<task>_metrics.json`.

    Attributes:
        metrics: what the JSON file holds, after the run.
    """

    def __init__(
        self,
        head: Head,
        *,
        output_dir: str | Path,
        split: str,
        boxes: str | Path | None = None,
        box_kinds: Sequence[str] | None = None,
    ) -> None:
        """
        Args:
            head: its aggregator must be the engine's network.
            output_dir: where the files go.
            split: name of the split, for the record.
            boxes: CSV table with columns `study, slice, kind` of annotated slices, if there is one.
            box_kinds: kinds that are lesions of this task; all when omitted.
        """
        self.head = head
        self.output_dir = Path(output_dir)
        self.split = split
        self.boxes = read_boxes(boxes, kinds=box_kinds) if boxes else None
        self.metrics: dict[str, Any] = {}
        self._who: dict[str, list[str]] = {"study": [], "patient": [], "split": []}
        self._probabilities: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []
        self._key_slices: dict[str, list[int]] = {}
        self._ranked_slices: list[list[int]] = []
        self._n_slices: list[int] = []

    def attach(self, engine: Engine) -> None:
        """Listen to the engine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        batch, output = engine.state.batch, engine.state.output
        self._probabilities.append(output["pred"].detach().double().cpu())
        self._labels.append(output["label"].detach().cpu())
        for column, values in self._who.items():
            values += batch[column]
        attention = self.head.aggregator.attention.detach().double().cpu()
        for study, weights, mask in zip(batch["study"], attention, batch["mask"].cpu(), strict=True):
            per_slice = slice_attention(weights[mask], len(self.head.windows))
            ranked = key_slices(
                per_slice, max(RANKED_SLICES, self.head.n_key_slices), min_distance=KEY_SLICE_DISTANCE
            )
            self._key_slices[study] = ranked[: self.head.n_key_slices]
            self._ranked_slices.append(ranked)
            self._n_slices.append(len(per_slice))

    def _write(self, engine: Engine) -> None:
        head = self.head
        probabilities, labels = torch.cat(self._probabilities).numpy(), torch.cat(self._labels).numpy()
        report = auroc(probabilities, labels, kind=head.kind, classes=head.classes)
        self.metrics = {
            "bundle": head.name,
            "weights_sha256": head.weights_sha256,
            "backbone_bundle": head.backbone.name,
            "backbone_weights_sha256": head.backbone.weights_sha256,
            "demonstration": head.demonstration,
            "split": self.split,
            "operating_points": head.operating_points,
            "n_studies": len(labels),
            "n_patients": len(set(self._who["patient"])),
            "macro_auroc": _number(report.macro),
            "auroc": {entry.name: _number(entry.auroc) for entry in report.classes},
            "n_positive": {entry.name: entry.n_positive for entry in report.classes},
            "prevalence": {entry.name: entry.n_positive / len(labels) for entry in report.classes},
        }
        if self.boxes is not None:
            known = {study: self.boxes[study] for study in self._key_slices if study in self.boxes}
            hits = key_slice_hit_rate(self._key_slices, known)
            self.metrics["key_slices"] = {
                "hit_rate": _number(hits.rate),
                "n_hit": hits.n_hit,
                "n_studies_with_boxes": hits.n_studies,
            }
        self.metrics["seen_patients"] = {
            part: seen_patients(loaded.weights_file, self._who["patient"]).as_dict()
            for part, loaded in (("encoder", head.backbone), ("head", head))
        }
        write_predictions(
            self.output_dir / f"{head.task}_predictions.csv",
            studies=self._who["study"],
            patients=self._who["patient"],
            splits=self._who["split"],
            probabilities=probabilities,
            labels=labels,
            kind=head.kind,
            classes=head.classes,
            key_slices=self._ranked_slices,
            n_slices=self._n_slices,
        )
        content = json.dumps(self.metrics, indent=2) + "\n"
        write_atomically(self.output_dir / f"{head.task}_metrics.json", content.encode())
        self._print()

    def _print(self) -> None:
        found = self.metrics
        who = f"{found['n_studies']} studies of {found['n_patients']} patients, split {self.split}"
        print(f"{self.head.task}: {who}")
        defined = sum(value is not None for value in found["auroc"].values())
        for name, value in (*found["auroc"].items(), ("macro", found["macro_auroc"])):
            text = "not defined" if value is None else f"{value:.3f}"
            n = found["n_positive"].get(name)
            about = f"{n} positive ({100 * found['prevalence'][name]:.0f} %)" if n is not None else ""
            if name == "macro" and defined < len(found["auroc"]):
                about = f"mean of {defined} classes"
            print(f"  AUROC {name:<16} {text}  {about}".rstrip())
        hits = self.metrics.get("key_slices")
        if hits and hits["n_studies_with_boxes"]:
            print(
                f"  key slices hit in {hits['n_hit']} of {hits['n_studies_with_boxes']} studies with lesions"
            )
        for part, seen in found["seen_patients"].items():
            if seen["n_patients"]:
                print(f"  the {part} was trained on {seen['n_patients']} of these patients")
            if seen["on_record"] != "all":
                print(f"  whom the {part} was trained on: {seen['on_record']} is on record")


def _number(value: float) -> float | None:
    """None for NaN, which JSON does not know."""
    return None if math.isnan(value) else float(value)
