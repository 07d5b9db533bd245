"""What a run of `train.json` reads, and the checks before its first step."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from radclear.ct import Window
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.distributed import rank, refuse_unjoined
from radclear.pretraining.images import check_depth
from radclear.pretraining.inference_settings import check_inference
from radclear.pretraining.slice_pairs import SlicePairs
from radclear.pretraining.slice_rows import check_patients, describe, in_split
from radclear.pretraining.slice_sources import read_slices
from radclear.pretraining.views import SliceViews

logger = logging.getLogger("radclear.training")
RUN_SUFFIX = "_lecl_run"


def run_folder(output_bundle: str | Path) -> str:
    """Where logs, checkpoints and decoded series of a run go: beside the bundle, which holds none of them."""
    path = Path(output_bundle).resolve()
    return str(path.with_name(path.name + RUN_SUFFIX))


class RunData:
    """The slices to train on and those to probe with, after every check that can be made without a network.

    Attributes:
        train, validation: data sets of the two splits; `validation` is None where there is no such split.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        *,
        run_dir: str | Path,
        views: SliceViews,
        seed: int,
        data_format: str = "auto",
        columns: Mapping[str, str] | None = None,
        data_options: Mapping[str, Any] | None = None,
        train_split: str = "train",
        validation_split: str | None = "val",
        evaluation_tables: Sequence[str | Path] = (),
        decoded_dir: str | Path | None = None,
        inference_config: str | Path | None = None,
    ) -> None:
        """
        Args:
            dataset_dir, data_format, columns: see `read_slices`.
            run_dir: whose folder `decoded` takes decoded series where `decoded_dir` is None.
            views, seed: see `SlicePairs`.
            data_options: `options` of `read_slices`.
            train_split, validation_split: names of splits.
            evaluation_tables: tables whose patients may not be trained on; see `check_patients`.
            decoded_dir: folder of decoded series, which runs may share, also at the same time.
            inference_config: `inference.json` whose size and windows the views must have; None for no check.

        Raises:
            PretrainingError: size or windows are not those of `inference_config`, the data are not what they
                must be, or processes would each train alone.
        """
        refuse_unjoined()
        if inference_config is not None:
            check_inference(views, inference_config)
        if isinstance(evaluation_tables, (str, Path)):
            evaluation_tables = [evaluation_tables]
        series = DecodedSeries(Path(decoded_dir) if decoded_dir else Path(run_dir) / "decoded")
        rows = read_slices(
            dataset_dir,
            series=series,
            data_format=data_format,
            columns=columns,
            options=data_options,
            splits=[split for split in (train_split, validation_split) if split is not None],
        )
        for row in rows:
            if not row.has_hu:
                check_depth(row.path)
        check_patients(rows, train_split=train_split, evaluation_tables=evaluation_tables)
        train = in_split(rows, train_split)
        validation = [row for row in rows if row.split == validation_split]
        self.train = SlicePairs(train, series=series, views=views, seed=seed)
        self.validation = (
            SlicePairs(validation, series=series, views=views, seed=seed) if validation else None
        )
        if rank() == 0:
            logger.info("training on %s", describe(train))

    def part(self, name: str) -> SlicePairs | None:
        """`train` or `validation`; for configs, whose keys MONAI looks into."""
        return {"train": self.train, "validation": self.validation}[name]

    @property
    def fingerprint(self) -> str:
        """sha256 over what is trained on: a run goes on with the same slices, boxes, patients and classes."""
        digest = hashlib.sha256()
        for row in self.train.rows:
            where = (row.study, row.path.name, row.slice_index, row.hu_offset)
            digest.update(repr((*where, row.boxes, row.patient, row.lesion_class)).encode())
        return digest.hexdigest()[:16]

    @property
    def n_studies(self) -> dict[str, int]:
        """Split → number of studies."""
        found = {"train": self.train.n_studies}
        return found if self.validation is None else {**found, "validation": self.validation.n_studies}


def training_statement(data: RunData, *, weighting: str, weight: float, steps: int, batch: int) -> str:
    """How weights were made, for their metadata."""
    rows = data.train.rows
    method = (
        "the MoCo-v3 control of LeCL (no lesion term)"
        if weight == 0
        else f"LeCL ({weighting} weighting, weight {weight:g})"
    )
    return (
        f"Pre-trained with {method} for {steps} steps of {batch} slices, on {describe(rows)}. "
        "Two views of each slice, no labels but the lesion boxes. How good the embeddings are was not "
        "measured here beyond the probe of the run's log."
    )


def with_fingerprint(settings: Mapping[str, Any], data: RunData, network: nn.Module) -> dict[str, Any]:
    """All that a checkpoint belongs to, by the key of `train.json` that sets it.

    Args:
        settings: as the config lists them.
        data: that is trained on; gives its fingerprint and every setting of its views.
        network: backbone as `radclear.backbones.build` returned it; gives its name and architecture.

    Returns:
        Setting by key; those of views and network have keys such as `views#first#noise_hu`.
    """
    views = {
        f"views#{name}": value
        for name, value in _flat(asdict(data.train.views)).items()
        if not name.startswith("windows") and name != "image_size"  # among `settings`
    }
    architecture = {f"network_def#{name}": value for name, value in _flat(asdict(network.config)).items()}
    of_run = {name: value for name, value in settings.items() if name != "backbone"}
    return {
        **of_run,
        **views,
        **architecture,
        "network_def#name": network.name,
        "data": data.fingerprint,
    }


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}#{inner}": item for inner, item in _flat(value).items()}
        else:
            found[name] = value
    return found


def describe_windows(windows: Sequence[Window]) -> list[str]:
    """Windows as text, such as `lung -600/1500`, for the record."""
    return [f"{window.name} {window.level_hu:g}/{window.width_hu:g}" for window in windows]
