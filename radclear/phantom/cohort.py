"""Write a cohort of phantoms with its label and box tables."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path

from radclear.phantom.cohort_tables import SPLITS, assign_splits, write_tables
from radclear.phantom.crowded import draw_crowded_patient, draw_twins
from radclear.phantom.dicom import write_dicom
from radclear.phantom.disease import Patient, stream
from radclear.phantom.nifti import write_nifti
from radclear.phantom.torso import check_extent, make_phantom
from radclear.processes import worker_pool

FORMATS = ("dicom", "nifti")
#: Raised whenever the same seed would give other voxels or labels, so that a cohort is never finished by
#: another model.
MODEL_VERSION = 2


def write_cohort(
    folder: str | os.PathLike,
    *,
    n_studies: int,
    seed: int = 0,
    n_slices: int | tuple[int, int] = 64,
    size: int | Sequence[int] = 256,
    splits: tuple[float, float, float] = (0.6, 0.2, 0.2),
    format: str = "dicom",
    crowded: bool = False,
    twins: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``folder/studies/<study>``, ``labels.csv`` and ``boxes.csv``.

    A study appears under its name only when it is whole, and is skipped when it is there already, so an
    interrupted run is finished by the same call. The tables are written last.

    Args:
        folder: made if missing.
        n_studies: number of studies; one patient each, of twins two each.
        seed: of the cohort. Study number n of seed s is phantom ``study_seed(s, n)`` whatever ``n_studies``
            is; of twins, studies 2n and 2n + 1 are.
        n_slices: per study, or (lowest, highest) to draw from.
        size: rows and columns, or several to draw from.
        splits: fractions of train, val and test, summing to 1. Exact up to rounding, drawn at random.
        format: "dicom" (a folder per study) or "nifti" (one .nii.gz per study, in a folder of its name).
        crowded: patients of `radclear.phantom.crowded` with some forty lesions, to train encoders on.
        twins: studies 0 and 1, 2 and 3, … are twins of `radclear.phantom.crowded`: one patient, in one split,
            who differ in their lesions alone.
        workers: processes that draw and write.
        progress: called with (studies done, all studies).

    Returns:
        The folder.

    Raises:
        ValueError: an option is out of range, or the folder holds a cohort made with other options.
    """
    _check(n_studies, seed, n_slices, size, splits, format, workers)
    if twins and (crowded or n_studies % 2):
        raise ValueError(
            f"twins need an even number of studies (found {n_studies}), and exclude crowded, as they are "
            "crowded already"
        )
    folder = Path(folder)
    (folder / "studies").mkdir(parents=True, exist_ok=True)
    (folder / "records").mkdir(exist_ok=True)
    names = [f"phantom-{n:04d}" for n in range(n_studies)]
    settings = [_study_settings(seed, n, n_slices, size, format, crowded, twins) for n in range(n_studies)]
    records, missing = {}, []
    for name, wanted in zip(names, settings, strict=True):
        record = _existing_record(folder, name, wanted)
        if record is None:
            missing.append((str(folder), name, wanted))
        else:
            records[name] = record
    _remove_remains(folder, {name for _, name, _ in missing})
    done = len(records)
    if progress is not None and done:
        progress(done, n_studies)
    for name, record in _run(missing, workers):
        records[name] = record
        done += 1
        if progress is not None:
            progress(done, n_studies)
    share = 2 if twins else 1  # studies of one patient
    patient_splits = assign_splits(seed, n_studies // share, splits)
    write_tables(folder, names, records, [name for name in patient_splits for _ in range(share)])
    return folder


def study_seed(cohort_seed: int, number: int) -> int:
    """Seed of the phantom that is study ``number`` of a cohort."""
    return cohort_seed * 1_000_000 + number


def _check(n_studies, seed, n_slices, size, splits, format, workers) -> None:
    if not 1 <= n_studies < 1_000_000:
        raise ValueError(f"n_studies is {n_studies}; expected 1 to 999999")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a whole number from 0")
    if not isinstance(n_slices, int) and not (len(n_slices) == 2 and n_slices[0] <= n_slices[1]):
        raise ValueError(f"n_slices is {n_slices}; expected a number or (lowest, highest)")
    if not isinstance(size, int) and not len(size):
        raise ValueError("size is empty; expected a number of pixels or several to draw from")
    for pixels in [size] if isinstance(size, int) else size:
        check_extent(n_slices if isinstance(n_slices, int) else n_slices[0], pixels)
    if len(splits) != 3 or min(splits) < 0 or abs(sum(splits) - 1) > 1e-6:
        raise ValueError(f"splits is {splits}; expected fractions of {', '.join(SPLITS)} that sum to 1")
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")


def _study_settings(seed: int, number: int, n_slices, size, format: str, crowded: bool, twins: bool) -> dict:
    """What decides the files of one study."""
    number, twin = divmod(number, 2) if twins else (number, None)
    rng = stream(study_seed(seed, number), "cohort")
    slices_draw, size_draw, order_draw = rng.random(3)
    if not isinstance(n_slices, int):
        n_slices = n_slices[0] + int(slices_draw * (n_slices[1] - n_slices[0] + 1))
    if not isinstance(size, int):
        size = size[int(size_draw * len(size))]
    return {
        "model_version": MODEL_VERSION,
        "seed": study_seed(seed, number),
        "n_slices": int(n_slices),
        "size": int(size),
        "format": format,
        "instance_order": "head_first" if order_draw < 0.6 else "feet_first",
        **({"crowded": True} if crowded else {}),
        **({"twin": twin} if twins else {}),
    }


def _existing_record(folder: Path, name: str, wanted: dict) -> dict | None:
    """The record of a finished study, None where the study is still to be written."""
    path = folder / "records" / f"{name}.json"
    if not path.is_file() or not (folder / "studies" / name).is_dir():
        return None
    record = json.loads(path.read_text())
    found = record["settings"]
    if found != wanted:
        differing = [key for key in (found | wanted) if found.get(key) != wanted.get(key)]
        other = {key: found.get(key) for key in differing}
        asked = {key: wanted.get(key) for key in differing}
        raise ValueError(
            f"{folder} holds {name} made with {other}; this call asks for {asked}; "
            "write to another folder or delete this one"
        )
    return record


def _remove_remains(folder: Path, names: set[str]) -> None:
    """Remove half-written studies whose process no longer runs on this machine."""
    for path in folder.glob(".phantom-*.tmp"):
        _, name, pid, _ = path.name.split(".")
        if name not in names:
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(path)
        except PermissionError:
            continue  # it runs under another user


def _run(tasks: list[tuple[str, str, dict]], workers: int):
    if workers == 1 or len(tasks) <= 1:
        for task in tasks:
            yield _write_study(*task)
        return
    with worker_pool(min(workers, len(tasks))) as pool:
        for future in as_completed([pool.submit(_write_study, *task) for task in tasks]):
            yield future.result()


def _write_study(folder: str, name: str, settings: dict) -> tuple[str, dict]:
    root = Path(folder)
    phantom = make_phantom(
        settings["seed"],
        n_slices=settings["n_slices"],
        size=settings["size"],
        patient=_patient(settings),
    )
    # Hidden, and outside studies/, so that no reader of the cohort meets half a study.
    temporary = root / f".{name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if settings["format"] == "dicom":
        write_dicom(phantom, temporary, instance_order=settings["instance_order"])
    else:
        write_nifti(phantom, temporary / f"{name}.nii.gz")
    boxes = [list(asdict(box).values()) for box in phantom.boxes]
    record = {"settings": settings, "labels": phantom.labels, "boxes": boxes}
    record_path = root / "records" / f"{name}.json"
    record_temporary = record_path.with_suffix(f".{os.getpid()}.tmp")
    record_temporary.write_text(json.dumps(record))
    os.replace(record_temporary, record_path)
    final = root / "studies" / name
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    return name, record


def _patient(settings: dict) -> Patient | None:
    """Who is drawn; None for the patient of the disease model."""
    if "twin" in settings:
        return draw_twins(settings["seed"])[settings["twin"]]
    return draw_crowded_patient(settings["seed"]) if settings.get("crowded") else None
