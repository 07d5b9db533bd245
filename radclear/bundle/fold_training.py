"""One fold of a cross-validation: a new head, trained by its bundle's `train.json`, and what it predicts."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader
from monai.utils import set_determinism
from torch import nn

from radclear.aggregation import key_slices, slice_attention
from radclear.bundle.configs import config_parser, own_error
from radclear.bundle.crossval_settings import CrossvalError
from radclear.bundle.evaluation import RANKED_SLICES
from radclear.bundle.loaded import KEY_SLICE_DISTANCE
from radclear.cohort import BagDataset, collate_bags, prepare_bag_batch
from radclear.results import write_atomically

RECORD, WEIGHTS = "fold.json", "weights.pt"


@dataclass(frozen=True)
class FoldResult:
    """A trained fold, as its folder holds it.

    Attributes:
        fold: its number.
        state_dict: of the aggregator, at the lowest validation loss.
        studies, patients: N, those held out, which the network never saw.
        logits: (N, C).
        labels: (N, C) of 0 and 1, or (N,) class indices.
        key_slices: N, slice indices, most attention first.
        n_slices: N.
        history: see `radclear.bundle.BestWeights`.
        best: number of the validation whose weights were kept.
        seconds: wall time of the training; None of a fold whose record does not tell.
    """

    fold: int
    state_dict: Mapping[str, torch.Tensor]
    studies: tuple[str, ...]
    patients: tuple[str, ...]
    logits: torch.Tensor
    labels: torch.Tensor
    key_slices: tuple[tuple[int, ...], ...]
    n_slices: tuple[int, ...]
    history: list[dict[str, float]]
    best: int
    seconds: float | None = None


def train_fold(bundle_root: str | Path, overrides: Mapping[str, Any], fold: int) -> FoldResult:
    """Train one fold, with a network and an optimiser of its own, and predict the studies that it held out.

    Args:
        bundle_root: the head bundle.
        overrides: top-level values of its `train.json`: `embeddings`, `labels`, `folds`, `seed` and others.
        fold: which.

    Raises:
        RadclearError: whatever training says.
    """
    parser = config_parser(bundle_root, {**overrides, "fold": fold}, name="train")
    try:
        with torch.random.fork_rng():
            set_determinism(seed=int(parser["seed"]) + fold)
            try:
                trainer = parser.get_parsed_content("train#trainer")
                trainer.run()
            finally:
                set_determinism(None)
        best, network = parser.get_parsed_content("best"), parser.get_parsed_content("network_def")
        store, table = parser.get_parsed_content("store"), parser.get_parsed_content("table")
        held_out = BagDataset(store, table, "test", expected=parser.get_parsed_content("expected"))
        device = parser.get_parsed_content("device")
    except Exception as error:  # MONAI and ignite wrap what went wrong
        raise own_error(error) or error from None
    state_dict, _ = best.unweighted()
    network.load_state_dict(state_dict)
    logits, labels, ranked, n_slices = predict_bags(
        network, held_out, device=device, batch_size=int(parser["bags_per_batch"])
    )
    return FoldResult(
        fold=fold,
        state_dict=state_dict,
        studies=tuple(row.study for row in held_out.studies),
        patients=tuple(row.patient for row in held_out.studies),
        logits=logits,
        labels=labels,
        key_slices=ranked,
        n_slices=n_slices,
        history=best.history,
        best=best.best,
        seconds=trainer.state.times["COMPLETED"],
    )


def predict_bags(
    network: nn.Module, dataset: BagDataset, *, device: str | torch.device = "cpu", batch_size: int = 16
) -> tuple[torch.Tensor, torch.Tensor, tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Whole bags through an aggregator in evaluation mode: all slices, in order, none chosen by annotation.

    Returns:
        Logits (N, C) and labels on the CPU, key slices and number of slices of each study.
    """
    network = network.to(device).eval()
    logits, labels, ranked, n_slices = [], [], [], []
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=False, num_workers=0, collate_fn=collate_bags)
    with torch.inference_mode():
        for batch in loader:
            feats, label, _, arguments = prepare_bag_batch(batch, device)
            logits.append(network(feats, **arguments).float().cpu())
            labels.append(label.cpu())
            attention = network.attention.double().cpu()
            for weights, mask in zip(attention, batch["mask"], strict=True):
                per_slice = slice_attention(weights[mask], dataset.n_windows)
                ranked.append(tuple(key_slices(per_slice, RANKED_SLICES, min_distance=KEY_SLICE_DISTANCE)))
                n_slices.append(len(per_slice))
    return torch.cat(logits), torch.cat(labels), tuple(ranked), tuple(n_slices)


def save_fold(folder: Path, result: FoldResult, *, settings_sha256: str) -> None:
    """Write a fold's weights and then its record; without a record it counts as not done."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    buffer = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in result.state_dict.items()}, buffer)
    write_atomically(folder / WEIGHTS, buffer.getvalue())
    record = {
        "settings_sha256": settings_sha256,
        "weights_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "fold": result.fold,
        "best": result.best,
        "seconds": result.seconds,
        "history": result.history,
        "studies": result.studies,
        "patients": result.patients,
        "logits": result.logits.tolist(),
        "labels": result.labels.tolist(),
        "key_slices": result.key_slices,
        "n_slices": result.n_slices,
    }
    write_atomically(folder / RECORD, (json.dumps(record) + "\n").encode())


def load_fold(folder: Path, *, settings_sha256: str) -> FoldResult | None:
    """A fold that was finished under these settings; None where there is none.

    Raises:
        CrossvalError: it is damaged.
    """
    if not (folder / RECORD).exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != record["weights_sha256"]:
            raise ValueError(f"{WEIGHTS} is not the one that was written")
        if record["settings_sha256"] != settings_sha256:
            return None
        labels = np.asarray(record["labels"])
        return FoldResult(
            fold=int(record["fold"]),
            state_dict=torch.load(io.BytesIO(content), map_location="cpu", weights_only=True),
            studies=tuple(record["studies"]),
            patients=tuple(record["patients"]),
            logits=torch.tensor(record["logits"], dtype=torch.float32),
            labels=torch.from_numpy(labels.astype(np.float32 if labels.ndim == 2 else np.int64)),
            key_slices=tuple(tuple(row) for row in record["key_slices"]),
            n_slices=tuple(record["n_slices"]),
            history=record["history"],
            best=int(record["best"]),
            seconds=record.get("seconds"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrossvalError(
            f"{folder} is damaged ({error}); delete it, and the same command trains the fold again"
        ) from error
