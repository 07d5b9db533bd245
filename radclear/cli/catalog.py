"""Where bundles are found and what they say of themselves, without importing torch or MONAI."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from radclear.errors import RadclearError

TASKS = {
    "tumor_location": "tumor_location_classification",
    "lung_disease": "lung_disease_classification",
    "staging": "staging_classification",
}


class BundleNotFoundError(RadclearError):
    """A bundle was asked for that is not where it was looked for."""


@dataclass(frozen=True)
class BundleEntry:
    """One bundle folder.

    Attributes:
        name: the bundle's name after its metadata.
        version: the bundle's version after its metadata.
        path: its folder.
        has_weights: whether `models/model.pt` is there.
        demonstration: whether its weights are for demonstration only.
    """

    name: str
    version: str
    path: Path
    has_weights: bool
    demonstration: bool


def bundles_folder(folder: str | Path | None = None) -> Path:
    """The folder that holds the bundles.

    Args:
        folder: the user's choice; else `$RADCLEAR_BUNDLES`, else `bundles` beside the installed library (a
            checkout or an editable install), else `bundles` in the working directory.

    Raises:
        BundleNotFoundError: no such folder; the message lists where was looked.
    """
    chosen = folder or os.environ.get("RADCLEAR_BUNDLES")
    candidates = (
        [Path(chosen)]
        if chosen
        else [Path(__file__).resolve().parents[2] / "bundles", Path.cwd() / "bundles"]
    )
    for candidate in candidates:
        if candidate.is_dir() and any(candidate.glob("*/configs/metadata.json")):
            return candidate.resolve()
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise BundleNotFoundError(
        f"no bundles found in {looked}. Give the folder that holds them with --bundles or $RADCLEAR_BUNDLES: "
        "a checkout has them at its top level; `python -m monai.bundle download` fetches single ones."
    )


def list_bundles(folder: Path) -> list[BundleEntry]:
    """All bundles directly below `folder`, by name.

    Raises:
        BundleNotFoundError: a `metadata.json` there is not readable JSON.
    """
    entries = []
    for metadata_file in sorted(folder.glob("*/configs/metadata.json")):
        try:
            metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BundleNotFoundError(
                f"{metadata_file} is not valid JSON ({error}); restore the bundle's original"
            ) from error
        root = metadata_file.parents[1]
        entries.append(
            BundleEntry(
                name=metadata.get("name", root.name),
                version=metadata.get("version", "?"),
                path=root,
                has_weights=(root / "models" / "model.pt").is_file(),
                demonstration=bool(metadata.get("demonstration", False)),
            )
        )
    return entries


def head_paths(folder: Path, tasks: list[str] | None) -> list[Path]:
    """The head bundles of `tasks` (all three when None), in the order of the product's questions.

    Raises:
        BundleNotFoundError: a task is unknown or its bundle is not in the folder.
    """
    wanted = tasks or list(TASKS)
    unknown = [task for task in wanted if task not in TASKS]
    if unknown:
        raise BundleNotFoundError(f"unknown task {', '.join(unknown)}; expected one of {', '.join(TASKS)}")
    paths = [folder / TASKS[task] for task in TASKS if task in wanted]
    for path in paths:
        if not (path / "configs" / "metadata.json").is_file():
            raise BundleNotFoundError(
                f"bundle {path.name} not found in {folder}; it answers one of the tasks asked for"
            )
    return paths
