"""Pre-train each backbone under each loss, and keep one that is not trained: the arms of the comparison.

Every arm is one run of the backbone bundle's own `train.json`; arms differ in the loss alone. What is there
already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Arm → options of train.json. `random` is not trained.
ARMS: dict[str, dict[str, str]] = {
    "similarity": {"weighting": "similarity", "lesion_weight": "2"},
    "strong": {"weighting": "similarity", "lesion_weight": "10"},
    "by_site": {"weighting": "similarity", "lesion_weight": "2", "exclude": "class"},
    "density": {"weighting": "density", "lesion_weight": "8"},
    "control": {"lesion_weight": "0"},
    "random": {},
}
BACKBONES = ("lecl_vit", "lecl_vssm", "lecl_gated_cnn")


def arm_folder(output: Path, backbone: str, arm: str, seed: int) -> Path:
    """Where the bundle of an arm lies."""
    return output / f"{backbone}-{arm}-{seed}"


def copy_bundle(source: Path, target: Path, image_size: int) -> None:
    """A backbone bundle without weights, for slices of `image_size` pixels."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("models"), dirs_exist_ok=True)
    for stem in ("inference", "train"):
        file = target / "configs" / f"{stem}.json"
        config = json.loads(file.read_text())
        config["image_size"] = image_size
        config["network_def"]["image_size"] = image_size
        file.write_text(json.dumps(config, indent=4))


def store_untrained(bundle: Path, seed: int) -> None:
    """Give a bundle the weights that training would start from."""
    import torch

    from radclear.backbones import build
    from radclear.bundle import store_weights

    options = dict(json.loads((bundle / "configs" / "inference.json").read_text())["network_def"])
    options.pop("_target_")
    torch.manual_seed(seed)
    provenance = {"demonstration": True, "training": f"Random weights of seed {seed}."}
    store_weights(bundle, build(options.pop("name"), **options).state_dict(), provenance=provenance)


def _train(args: argparse.Namespace, backbone: str, arm: str, seed: int) -> tuple[str, int]:
    """One run of train.json; (name, exit code)."""
    output = Path(args.output)
    target = arm_folder(output, backbone, arm, seed)
    if (target / "models" / "model.pt").is_file():
        return target.name, 0
    source = output / "bundles" / backbone
    if arm == "random":
        shutil.copytree(source, target, dirs_exist_ok=True)
        store_untrained(target, seed)
        return target.name, 0
    options = {
        "dataset_dir": args.cohort,
        "decoded_dir": output / "decoded",
        "output_bundle": target,
        "seed": seed,
        "max_epochs": args.epochs,
        "samples_per_epoch": args.samples_per_epoch,
        "samples_per_batch": args.samples_per_batch,
        "temperature": args.temperature,
        "lesion_share": args.lesion_share,
        "min_crop_area": args.min_crop_area,
        "learning_rate": args.learning_rate,
        "probe_slices": args.probe_slices,
        **ARMS[arm],
    }
    config = source / "configs" / "train.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    with open(output / f"{target.name}.log", "w") as log:
        code = subprocess.run(
            [str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    return target.name, code


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m radclear.experiments.pretrain_arms", description=__doc__)
    made.add_argument("--cohort", required=True, help="phantoms to learn from; their split `train` is used")
    made.add_argument("--output", required=True, help="folder for one bundle per arm, and their logs")
    made.add_argument(
        "--bundles", default="bundles", help="folder of the backbone bundles (default: bundles)"
    )
    made.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    made.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--image-size", type=int, default=112)
    made.add_argument("--epochs", type=int, default=8)
    made.add_argument("--samples-per-epoch", type=int, default=2048)
    made.add_argument("--samples-per-batch", type=int, default=64)
    made.add_argument("--temperature", type=float, default=0.2)
    made.add_argument("--lesion-share", type=float, default=0.5)
    made.add_argument("--min-crop-area", type=float, default=0.08, help="of a slice (default: 0.08)")
    made.add_argument("--learning-rate", type=float, default=0.001, help="for 256 slices (default: 0.001)")
    made.add_argument("--probe-slices", type=int, default=400)
    made.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    return made


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    for name in args.backbones:
        copy_bundle(Path(args.bundles) / name, Path(args.output) / "bundles" / name, args.image_size)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runs = [(name, arm, seed) for seed in args.seeds for arm in args.arms for name in args.backbones]
    failed = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for name, code in pool.map(lambda run: _train(args, *run), runs):
            outcome = "done" if code == 0 else f"failed with exit code {code}, see {name}.log"
            print(f"{name}: {outcome}", flush=True)
            failed += [name] * (code != 0)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
