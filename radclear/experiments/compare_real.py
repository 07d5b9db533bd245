"""Compare arms on real slices: nearest neighbours and linear probes that never cross a patient group.

A data set is a folder with `manifest.csv` (`path`, `group` and a label column), 8-bit grey pictures whose
window is burned in; of DeepLesion, crops with and without a lesion are told apart. The floor is the nearest
neighbour of 32×32 thumbnails in other groups, without learning.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.experiments.deeplesion_crops import lesion_crops
from radclear.experiments.encoders import ExperimentError, embed, encoders
from radclear.experiments.probes import accuracy, grouped_hits, nearest_in_other_groups
from radclear.pretraining.views import fit_whole

#: Folder → label column; rows without a label, and of classes in fewer than two groups, are left out.
TASKS = {"chest_ct_png": "histology", "sarscov2_ct": "label", "nih_body_part_slices": "region"}
DEEPLESION = "deeplesion"
SETS = (*TASKS, DEEPLESION)
LEFT_OUT = {"chest_ct_png": ("normal",)}  # web pictures of another source


def read_set(folder: Path, column: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Grey pictures, labels and groups."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise ExperimentError(f"{manifest} does not exist; expected a folder with pictures and manifest.csv")
    rows = pd.read_csv(manifest, dtype=str).dropna(subset=[column])
    rows = rows[~rows[column].isin(LEFT_OUT.get(folder.name, ()))]
    several = rows.groupby(column)["group"].nunique() > 1
    rows = rows[rows[column].map(several)]
    pictures = [read_picture(folder / path) for path in rows["path"]]
    return pictures, rows[column].to_numpy(), rows["group"].to_numpy()


def read_picture(path: Path) -> np.ndarray:
    """(rows, columns) uint8."""
    grey = imagecodecs.imread(path)
    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise ExperimentError(f"{path.name} is {grey.dtype} of shape {grey.shape}; expected 8-bit grey")
    return grey


def fitted(pictures: list[np.ndarray], size: int) -> Tensor:
    """(n, size, size) uint8, the pictures' shape kept, the rest black."""
    whole = [fit_whole(torch.from_numpy(grey).float() / 255, size) for grey in pictures]
    return (torch.stack(whole) * 255 + 0.5).to(torch.uint8)


def thumbnails(pictures: list[np.ndarray]) -> np.ndarray:
    """(n, 1024) float32: 32×32 pixels, of mean 0."""
    small = F.adaptive_avg_pool2d(fitted(pictures, 128)[:, None].float(), 32).flatten(1)
    return (small - small.mean(dim=1, keepdim=True)).numpy()


def compare(folder: Path, runs: Path, *, image_size: int, seed: int = 0) -> pd.DataFrame:
    """One row per encoder: accuracies of both readings on one data set, with intervals by group."""
    name = folder.name
    pictures, labels, groups = lesion_crops(folder) if name == DEEPLESION else read_set(folder, TASKS[name])
    floor = labels[nearest_in_other_groups(thumbnails(pictures), groups)] == labels
    about = {"set": folder.name, "n": len(labels), "groups": len(set(groups))}

    def row(backbone: str, arm: str, **readings: np.ndarray) -> dict[str, object]:
        found: dict[str, object] = {**about, "backbone": backbone, "arm": arm}
        for name, right in readings.items():
            found[name], found[f"{name}_low"], found[f"{name}_high"] = accuracy(right, groups, seed=seed)
        return found

    common = labels == pd.Series(labels).mode()[0]
    rows = [row("-", "majority class", nearest=common, linear=common), row("-", "thumbnails", nearest=floor)]
    slices = fitted(pictures, image_size)
    for backbone, arm, run_seed, encoder in encoders(runs, image_size):
        feats = embed(encoder, slices)
        nearest = labels[nearest_in_other_groups(feats - feats.mean(axis=0), groups)] == labels
        linear = grouped_hits(feats, labels, groups, seed=seed)
        rows.append({**row(backbone, arm, nearest=nearest, linear=linear), "seed": run_seed})
        print(
            f"{folder.name} {backbone} {arm} {run_seed}: {nearest.mean():.3f} {linear.mean():.3f}", flush=True
        )
    return pd.DataFrame(rows)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m radclear.experiments.compare_real", description=__doc__)
    made.add_argument("--data", required=True, help=f"folder with the data sets {', '.join(SETS)}")
    made.add_argument("--runs", required=True, help="output of radclear.experiments.pretrain_arms")
    made.add_argument("--output", required=True, help="folder for real.csv")
    made.add_argument("--image-size", type=int, default=112)
    made.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="default: all")
    return made


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    for name in args.sets:
        if not (Path(args.data) / name / "manifest.csv").is_file():
            raise ExperimentError(f"{args.data} has no {name}/manifest.csv; name the sets there are: --sets")
    Path(args.output).mkdir(parents=True, exist_ok=True)
    parts = [
        compare(Path(args.data) / name, Path(args.runs), image_size=args.image_size) for name in args.sets
    ]
    result = pd.concat(parts)
    result.to_csv(Path(args.output) / "real.csv", index=False, float_format="%.4f")
    print(result.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
