"""Where a bundle lies: its root, its metadata, and the backbone bundle that a head names by path."""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

METADATA = Path("configs") / "metadata.json"
_CONFIG_PATH = re.compile(r"[^\s'\",\[\]=][^'\",\[\]=]*\.(?:json|yaml|yml)")


class BundleError(RadclearError):
    """A bundle is not where it was looked for, or is not what it should be."""


def bundle_root(name: str) -> str:
    """The folder of the bundle whose config is being run, whatever the working directory.

    `python -m monai.bundle run` puts the root of the bundle it runs at index 1 of `sys.path`; MONAI Label
    puts it at index 0. The other commands of `monai.bundle` do neither, so a config file named on the command
    line counts first.

    Args:
        name: the bundle's name, as `name` in its `configs/metadata.json`.

    Returns:
        Absolute path of the folder.

    Raises:
        BundleError: no such folder; the message says where was looked and how to name it.
    """
    looked = []
    for candidate in _root_candidates():
        if candidate in looked:
            continue
        looked.append(candidate)
        if _name_of(candidate) == name:
            return str(candidate)
    raise BundleError(
        f"the root of bundle {name} was not found: none of the {len(looked)} folders on sys.path or named by "
        f"--config_file has a {METADATA} of that name. Name it: --bundle_root /path/to/{name}"
    )


def _root_candidates() -> Iterator[Path]:
    """Folders that may be the bundle's root, the surest first."""
    for argument in sys.argv[1:]:
        for path in config_paths(argument):
            if path.parent.name == "configs" and path.is_file():
                yield path.parents[1]
    for entry in (*sys.path[1:], *sys.path[:1]):
        yield Path(entry).resolve()


def config_paths(argument: str) -> list[Path]:
    """Absolute paths of the config files that an argument of a command line names, one or a list of them."""
    return [Path(match).resolve() for match in _CONFIG_PATH.findall(argument)]


def _name_of(folder: Path) -> str | None:
    """The name in the folder's metadata; None where there is none to read."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metadata.get("name") if isinstance(metadata, dict) else None


def find_backbone(bundle_root: str | Path, backbone_bundle: str | Path) -> Path:
    """The folder of the backbone bundle that a head works with.

    Args:
        bundle_root: the head's root.
        backbone_bundle: absolute; or relative to the head's root, or to the working directory where the
            head's root has no such bundle (so that a path typed on the command line works too).

    Returns:
        Absolute path.

    Raises:
        BundleError: there is no bundle; the message names the places looked at.
    """
    root = Path(bundle_root)
    candidates = [(root / backbone_bundle).resolve(), Path(backbone_bundle).resolve()]
    for candidate in candidates:
        if (candidate / METADATA).is_file():
            return candidate
    looked = " and ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    raise BundleError(
        f"backbone bundle {backbone_bundle} not found: no {METADATA} in {looked}. "
        "Name its folder with --backbone_bundle"
    )


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of the bundle in the folder `path`.

    Raises:
        BundleError: the folder is no bundle, or its metadata is not JSON.
    """
    file = Path(path) / METADATA
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path} is not a bundle: {METADATA} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON ({error}); restore the bundle's original") from error
    if not isinstance(metadata, dict):
        raise BundleError(f"{file} holds a {type(metadata).__name__}, expected a JSON object")
    return metadata


def write_metadata(path: str | Path, metadata: dict[str, Any]) -> None:
    """Replace the metadata of the bundle in the folder `path`, all or nothing."""
    file = Path(path) / METADATA
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")  # two processes may write at once
    try:
        temporary.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def embedding_dim(path: str | Path) -> int:
    """Length of the embeddings of the backbone bundle in the folder `path`, after its metadata."""
    metadata = read_metadata(path)
    try:
        return int(metadata["network_data_format"]["outputs"]["pred"]["num_channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{Path(path) / METADATA} has no network_data_format.outputs.pred.num_channels; "
            "a backbone bundle states its embedding length there"
        ) from error
