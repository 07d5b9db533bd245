"""Where the time of one study goes, from DICOM files to the written answers."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from radclear.aggregation import AttentionMIL, key_slices, slice_attention, to_probabilities
from radclear.backbones import build, embed_slices
from radclear.ct import read_study, slice_stack
from radclear.phantom import DISEASE_CLASSES, LOCATION_CLASSES, STAGE_CLASSES, make_phantom, write_dicom
from radclear.results import ModelProvenance, TaskAnswer, build_result, write_result

STAGES = ("read", "window", "embed", "aggregate", "write")
HEADS = (
    ("tumor_location", "multilabel", LOCATION_CLASSES),
    ("lung_disease", "multilabel", DISEASE_CLASSES),
    ("staging", "multiclass", STAGE_CLASSES),
)


def measure_study(
    backbone: str, *, device: str, precision: str, batch_size: int, n_slices: int = 64, size: int = 512
) -> dict[str, float]:
    """Seconds of each stage for one uncompressed phantom study through a backbone and three heads.

    Weights are random, which does not change the time.

    Args:
        backbone: name for `radclear.backbones.build`.
        device: torch device.
        precision: see `radclear.backbones.resolve_precision`.
        batch_size: slices per forward pass.
        n_slices: slices of the phantom.
        size: rows and columns of the phantom.

    Returns:
        stage → seconds, for the stages of `STAGES`. The study runs twice; the second run counts.
    """
    encoder = build(backbone).eval()
    heads = [AttentionMIL(encoder.embedding_dim, len(classes)).eval() for _, _, classes in HEADS]
    with tempfile.TemporaryDirectory() as folder:
        write_dicom(make_phantom(0, n_slices=n_slices, size=size), Path(folder) / "study")
        for _ in range(2):
            seconds = _one_study(Path(folder), encoder, heads, device, precision, batch_size)
    return seconds


def _one_study(
    folder: Path,
    encoder: torch.nn.Module,
    heads: list[AttentionMIL],
    device: str,
    precision: str,
    batch_size: int,
) -> dict[str, float]:
    marks = [time.perf_counter()]
    study = read_study(folder / "study")
    marks.append(time.perf_counter())
    slices = slice_stack(study)
    marks.append(time.perf_counter())
    feats = embed_slices(encoder, slices, device=device, precision=precision, batch_size=batch_size)
    marks.append(time.perf_counter())
    answers = []
    with torch.inference_mode():
        for (task, kind, classes), head in zip(HEADS, heads, strict=True):
            probabilities = to_probabilities(head(feats[None]), kind)[0]
            attention = slice_attention(head.attention, slices.shape[0])[0]
            answers.append(_answer(task, kind, classes, probabilities, attention))
    marks.append(time.perf_counter())
    write_result(build_result(study, answers, study_key="study", seconds={}), folder / "answer", study=study)
    marks.append(time.perf_counter())
    return dict(zip(STAGES, np.diff(marks).tolist(), strict=True))


def _answer(
    task: str, kind: str, classes: tuple, probabilities: torch.Tensor, attention: torch.Tensor
) -> TaskAnswer:
    unknown = "0" * 64
    model = ModelProvenance(
        "benchmark", "0", unknown, "benchmark", "0", unknown, unknown, precision="float32", demonstration=True
    )
    return TaskAnswer(
        task=task,
        kind=kind,
        classes=classes,
        probabilities=probabilities.tolist(),
        attention=attention.numpy(),
        key_slices=key_slices(attention),
        operating_points=None,
        calibrated=False,
        model=model,
    )
