"""Slices are trained on as they will be embedded: `train.json` and `inference.json` of a bundle agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from radclear.bundle.expressions import check_config
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.views import SliceViews

_FILE = Path("configs") / "inference.json"


def inference_config(bundle_root: str | Path, output_bundle: str | Path) -> str:
    """The `inference.json` that will go with the weights: of the output bundle, or of the one it copies."""
    own = Path(output_bundle) / _FILE
    return str(own if own.is_file() else Path(bundle_root) / _FILE)


def check_inference(views: SliceViews, config: str | Path) -> None:
    """Refuse views of another size or under other windows than the embeddings will have.

    Args:
        views: of the training.
        config: the bundle's `inference.json`.

    Raises:
        PretrainingError: they differ, or the file cannot be read; names key, both values and the file.
    """
    path = Path(config)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PretrainingError(f"{path} cannot be read ({error}); the bundle needs one") from error
    check_config(content, source=str(path))
    parser = ConfigParser(content)
    own = {"image_size": views.image_size, "windows": _text(views.windows)}
    for key, mine in own.items():
        if key not in content:
            raise PretrainingError(f"{path} has no key {key}; add it, equal to that of train.json")
        value = parser.get_parsed_content(key)
        theirs = _text(value) if key == "windows" else value
        if mine != theirs:
            raise PretrainingError(
                f"{key} is {mine} in training and {theirs} in {path}, and weights are for slices as "
                f"they were trained on; train with the latter, or first change {key} in {path.name} and "
                "train.json of a copy of the bundle"
            )


def _text(windows: Any) -> str:
    return ", ".join(f"{w.name} {w.level_hu:g}/{w.width_hu:g}" for w in windows)
