"""Copy a bundle, without its weights, into the folder that takes new ones."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radclear.bundle.configs import read_config
from radclear.bundle.location import BundleError, read_metadata, write_metadata

#: What a card says of the weights it came with, and what a copy says in its place.
_STATED = {
    "Data": "Not stated: see `data_license.txt`.",
    "Training": "See `radclear.weights` in `configs/metadata.json`.",
    "Training configuration": "See `radclear.weights` in `configs/metadata.json`.",
    "Performance": "Not measured yet: `evaluate.json` or `radclear evaluate` measures it.",
    "Intended use and limitations": "Research use only. Not a medical device, not for diagnosis. What these "
    "weights cannot do: not stated.",
}
#: Rows of the card's table of reporting items that hold for any weights; the others are to be answered anew.
_ANSWERED = {"predictors (input)", "model output", "model"}
_REPORTING_ROW = re.compile(
    r"^(?P<start>\| (?P<item>(?!item )[^|]+?) (?:\| [^|\n]*? ){2}\| )(?!---).*$", re.MULTILINE
)
_LICENSE_OF_DATA = """State here the licence and the terms of the data that the weights in models/ were
trained on.

configs/metadata.json says under radclear.weights, for each weight file, how it was made.
"""


def copy_bundle(
    bundle_root: str | Path,
    output_bundle: str | Path,
    *,
    backbone: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """The folder that takes the weights; made as a copy of the bundle, without its weights, where absent.

    Args:
        bundle_root: the bundle to copy.
        output_bundle: the folder.
        backbone: the backbone bundle that a copied head's configs are to name.
        changes: top-level keys and values of the configs that weights depend on; written into the copy's
            configs where they have the key.

    Raises:
        BundleError: the folder is there, and its inference config has other values.
    """
    changes = dict(changes or {})
    source, target = Path(bundle_root).resolve(), Path(output_bundle).resolve()
    if target == source or (target.exists() and any(target.iterdir())):
        read_metadata(target)  # says so where it is something else than a bundle
        check_config_values(target, changes)
        return target
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("models", "eval"), dirs_exist_ok=True)
    for file in sorted((target / "configs").glob("*.json")):
        config = json.loads(file.read_text(encoding="utf-8"))
        changed = {key: value for key, value in changes.items() if key in config}
        if "backbone_bundle" in config and backbone is not None:
            changed["backbone_bundle"] = os.path.relpath(backbone, target)
        if changed:
            config.update(changed)
            file.write_text(json.dumps(config, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    metadata = read_metadata(target)
    metadata["radclear"]["weights"] = {}
    metadata["data_source"] = "Not stated"
    metadata["intended_use"] = "Research use only. Not a medical device and not for diagnosis."
    write_metadata(target, metadata)
    _withdraw_statements(target / "docs")
    return target


def _withdraw_statements(docs: Path) -> None:
    """Take out of a copied card what held for the weights that were not copied."""
    card = docs / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        for heading, statement in _STATED.items():
            text = re.sub(
                rf"^(## {heading}\n).*?(?=^##|\Z)",
                rf"\1\n{statement}\n\n",
                text,
                flags=re.MULTILINE | re.DOTALL,
            )
        text = re.sub(
            r"^## Reporting items\n.*?(?=^##|\Z)",
            lambda section: _REPORTING_ROW.sub(_unanswered, section[0]),
            text,
            flags=re.MULTILINE | re.DOTALL,
        )
        card.write_text(text, encoding="utf-8")
    if (docs / "data_license.txt").is_file():
        (docs / "data_license.txt").write_text(_LICENSE_OF_DATA, encoding="utf-8")


def _unanswered(row: re.Match) -> str:
    return row[0] if row["item"] in _ANSWERED else f"{row['start']}Not stated. |"


def check_config_values(bundle: str | Path, values: Mapping[str, Any]) -> None:
    """Refuse a bundle whose inference config has other values than those that weights were made for.

    Raises:
        BundleError: names the first that differs.
    """
    config = read_config(bundle)
    for key, value in values.items():
        if config.get(key) != value:
            raise BundleError(
                f"{bundle} is a bundle whose {key} is {json.dumps(config.get(key))}, and the weights are for "
                f"{json.dumps(value)}; name a folder that is not there yet with --output_bundle"
            )
