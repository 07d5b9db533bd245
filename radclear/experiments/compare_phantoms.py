"""Compare arms on phantoms that none of them saw: lesions on slices and on crops, tumor sites of studies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from radclear.ct import DEFAULT_WINDOWS, find_studies, read_study, slice_stack
from radclear.evaluation import delong, delong_test
from radclear.experiments.encoders import embed, encoders
from radclear.experiments.lesion_crops import Place, crop_pairs
from radclear.experiments.probes import head_probe, linear_probe
from radclear.phantom import LESION_KINDS, LOCATION_CLASSES

SPLITS = ("train", "val", "test")
N_RESAMPLES = 2000


@dataclass(frozen=True)
class Cohort:
    """Slices of a cohort and what is known of them.

    Attributes:
        slices: (studies, slices, windows, S, S) uint8.
        fine: the same, larger, to cut crops from.
        places: of the tumor lesions annotated on these slices.
        lesion: (studies, slices) bool, a tumor lesion is annotated.
        sites: (studies, classes) float of 0 and 1.
        split: (studies,) name.
    """

    slices: Tensor
    fine: Tensor
    places: list[Place]
    lesion: np.ndarray
    sites: np.ndarray
    split: np.ndarray


def read_cohort(folder: Path, *, image_size: int, every: int) -> Cohort:
    """Every `every`-th slice of each study; a lesion counts on the slice itself."""
    labels = pd.read_csv(folder / "labels.csv", dtype={"study": str}).set_index("study")
    boxes = pd.read_csv(folder / "boxes.csv", dtype={"study": str})
    boxes = dict(tuple(boxes[boxes["kind"].isin(LESION_KINDS)].groupby("study")))
    slices, fine, lesion, places, names = [], [], [], [], []
    for source in find_studies(folder / "studies"):
        study = read_study(source.path)
        for size, stacks in ((image_size, slices), (2 * image_size, fine)):
            stack = slice_stack(study, windows=DEFAULT_WINDOWS, size=size)
            stacks.append(stack[:, ::every].transpose(0, 1).contiguous())
        shown = np.zeros(len(slices[-1]), bool)
        for box in boxes[source.name].itertuples() if source.name in boxes else ():
            if box.slice % every == 0:
                number = box.slice // every
                shown[number] = True
                x, y = (box.x1 + box.x2) / 2 / study.hu.shape[2], (box.y1 + box.y2) / 2 / study.hu.shape[1]
                places.append(Place(len(names), number / (len(shown) - 1), x, y))
        lesion.append(shown)
        names.append(source.name)
    rows = labels.loc[names]
    sites = rows[[f"location_{name}" for name in LOCATION_CLASSES]].to_numpy(np.float32)
    split = rows["split"].to_numpy()
    return Cohort(torch.stack(slices), torch.stack(fine), places, np.stack(lesion), sites, split)


@dataclass(frozen=True)
class Crops:
    """Crops of one split, see `radclear.experiments.lesion_crops.crop_pairs`."""

    pictures: Tensor
    lesion: np.ndarray
    studies: np.ndarray


def crops_of(cohort: Cohort) -> dict[str, Crops]:
    """The crops of each split; partners are of the same split."""
    found = {}
    for name in SPLITS:
        members = np.flatnonzero(cohort.split == name)
        own = {int(study): number for number, study in enumerate(members)}
        places = [replace(p, study=own[p.study]) for p in cohort.places if p.study in own]
        size = cohort.slices.shape[-1]
        found[name] = Crops(*crop_pairs(cohort.fine[members], cohort.lesion[members], places, size=size))
    return found


def scores_of(
    cohort: Cohort, crops: dict[str, Crops], encode: Callable[[Tensor], np.ndarray], *, seed: int
) -> dict[str, np.ndarray]:
    """Test scores of the four tasks.

    Args:
        cohort, crops: what is read.
        encode: (n, S, S) uint8 → (n, d).
        seed: of the heads.
    """
    n, z, w = cohort.slices.shape[:3]
    feats = encode(cohort.slices.flatten(0, 2)).reshape(n, z, w, -1)
    d = feats.shape[3]
    part = {name: cohort.split == name for name in SPLITS}
    rows = {name: feats[part[name]].reshape(-1, w * d) for name in SPLITS}
    truth = {name: cohort.lesion[part[name]].reshape(-1) for name in SPLITS}
    bags = {name: torch.from_numpy(feats[part[name]].reshape(-1, z * w, d)) for name in SPLITS}
    sites = {name: torch.from_numpy(cohort.sites[part[name]]) for name in SPLITS}
    cut = {name: encode(own.pictures.flatten(0, 1)).reshape(-1, w * d) for name, own in crops.items()}
    shown = {name: own.lesion for name, own in crops.items()}
    return {
        "lesion": linear_probe(rows["train"], truth["train"], rows["val"], truth["val"], rows["test"]),
        "crop": linear_probe(cut["train"], shown["train"], cut["val"], shown["val"], cut["test"]),
        "attention": head_probe(bags, sites, aggregator="attention", seed=seed),
        "mean_pool": head_probe(bags, sites, aggregator="mean_pool", seed=seed),
    }


def macro_auroc(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over classes of the AUROC, studies counted `weights` times; classes of one kind are left out."""
    weights = np.ones(len(truth)) if weights is None else weights
    areas = []
    for score, positive in zip(scores.T, truth.T.astype(bool), strict=True):
        up, down = weights[positive], weights[~positive]
        if up.sum() == 0 or down.sum() == 0:
            continue
        difference = score[positive][:, None] - score[~positive][None, :]
        wins = (difference > 0) + 0.5 * (difference == 0)
        areas.append(up @ wins @ down / (up.sum() * down.sum()))
    return float(np.mean(areas))


def bootstrap_macro(scores: list[np.ndarray], truth: np.ndarray, *, seed: int) -> np.ndarray:
    """(scores, resamples) macro AUROCs of the same resamples of studies; one study is one patient here."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    weights = [np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for _ in range(N_RESAMPLES)]
    return np.array([[macro_auroc(score, truth, w) for w in weights] for score in scores])


def table(
    cohort: Cohort, crops: Crops, found: dict[tuple[str, str, int], dict[str, np.ndarray]]
) -> pd.DataFrame:
    """One row per arm: AUROCs with intervals, and the difference from its control of the same seed.

    Args:
        cohort: with the truth.
        crops: those of the test split.
        found: (backbone, arm, seed) → scores of `scores_of`.
    """
    test = cohort.split == "test"
    sites = cohort.sites[test]
    patients = np.repeat(np.arange(test.sum()), cohort.lesion.shape[1])
    binary = {
        "lesion": (cohort.lesion[test].reshape(-1), patients), "crop": (crops.lesion, crops.studies)
    }  # fmt: skip
    keys = list(found)
    macro = {
        task: dict(zip(keys, bootstrap_macro([found[key][task] for key in keys], sites, seed=0), strict=True))
        for task in ("attention", "mean_pool")
    }
    rows = []
    for key in keys:
        backbone, arm, seed = key
        control = (backbone, "control", seed)
        row: dict[str, object] = {"backbone": backbone, "arm": arm, "seed": seed}
        for task, (truth, groups) in binary.items():
            area = delong(found[key][task], truth, patients=groups)
            row[task] = float(area.auroc[0])
            row[f"{task}_low"], row[f"{task}_high"] = area.interval()
            if control in found and control != key:
                paired = delong_test(found[key][task], found[control][task], truth, patients=groups)
                row[f"{task}_difference"], row[f"{task}_p"] = paired.difference, paired.p_value
        for task, samples in macro.items():
            row[task] = macro_auroc(found[key][task], sites)
            row[f"{task}_low"], row[f"{task}_high"] = np.quantile(samples[key], (0.025, 0.975))
        if control in found and control != key:
            difference = macro["attention"][key] - macro["attention"][control]
            row["attention_difference"] = row["attention"] - macro_auroc(found[control]["attention"], sites)
            tail = min((difference <= 0).mean(), (difference >= 0).mean())
            row["attention_p"] = max(2 * tail, 2 / N_RESAMPLES)
        rows.append(row)
    return pd.DataFrame(rows)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m radclear.experiments.compare_phantoms", description=__doc__
    )
    made.add_argument("--cohort", required=True, help="phantoms of another seed than those pre-trained on")
    made.add_argument("--runs", required=True, help="output of radclear.experiments.pretrain_arms")
    made.add_argument("--output", required=True, help="folder for phantoms.csv and the scores")
    made.add_argument("--image-size", type=int, default=112)
    made.add_argument("--every", type=int, default=2, help="use every n-th slice (default: 2)")
    return made


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    output = Path(args.output)
    (output / "scores").mkdir(parents=True, exist_ok=True)
    cohort = read_cohort(Path(args.cohort), image_size=args.image_size, every=args.every)
    crops = crops_of(cohort)
    found = {}
    for backbone, arm, seed, encoder in encoders(Path(args.runs), args.image_size):
        file = output / "scores" / f"{backbone}-{arm}-{seed}.npz"
        if not file.is_file():
            temporary = file.with_suffix(".tmp.npz")
            np.savez(temporary, **scores_of(cohort, crops, partial(embed, encoder), seed=seed))
            temporary.replace(file)
        found[backbone, arm, seed] = dict(np.load(file))
        print(f"{backbone} {arm} {seed}: done", flush=True)
    result = table(cohort, crops["test"], found)
    result.to_csv(output / "phantoms.csv", index=False, float_format="%.4f")
    print(result.to_string(float_format=lambda value: f"{value:.3f}"))
    n_test = int((cohort.split == "test").sum())
    lesions = cohort.lesion[cohort.split == "test"].mean()
    print(f"{n_test} test patients; a lesion on {lesions:.0%} of their slices")
    print(f"{crops['test'].lesion.sum()} crops with a lesion, as many of the same places without")
    print("prevalence: " + ", ".join(
        f"{name} {share:.0%}"
        for name, share in zip(LOCATION_CLASSES, cohort.sites[cohort.split == "test"].mean(0), strict=True)
    ))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
