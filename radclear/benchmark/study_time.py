"""Where the time of one study goes, from DICOM files to the written answer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

STAGES = ("read", "window", "embed", "aggregate", "write")


def measure_study(
    heads: Sequence, *, device: str, precision: str, batch_size: int, n_slices: int = 64, size: int = 512
) -> dict[str, float]:
    """Seconds of each stage for one uncompressed phantom study.

    Args:
        heads: loaded head bundles that share their backbone.
        device: torch device.
        precision: see `radclear.backbones.resolve_precision`.
        batch_size: slices per forward pass.
        n_slices: slices of the phantom.
        size: rows and columns of the phantom.

    Returns:
        stage → seconds, for the stages of `STAGES`. The study runs twice; the second run counts.
    """
    from radclear.bundle import predict_folder
    from radclear.phantom import make_phantom, write_dicom

    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        write_dicom(make_phantom(0, n_slices=n_slices, size=size), study)
        for attempt in ("warm", "measured"):
            report = predict_folder(
                study,
                Path(folder) / attempt,
                heads,
                device=device,
                precision=precision,
                batch_size=batch_size,
            )
    return {stage: report.done[0].seconds.get(stage, 0.0) for stage in STAGES}
