"""Read a bundle's configs, checked, and parse them; our errors come out of MONAI's parser as they went in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from radclear.bundle.expressions import check_config
from radclear.bundle.location import BundleError
from radclear.errors import RadclearError


def read_config(path: str | Path, *, name: str = "inference") -> dict[str, Any]:
    """The parsed JSON of one of a bundle's configs, refused where its expressions do more than describe.

    Raises:
        BundleError: the config is missing or no JSON object.
        UnsafeExpressionError: see `radclear.bundle.expressions`.
    """
    file = Path(path) / "configs" / f"{name}.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path} is not a bundle: {file} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON ({error}); restore the bundle's original") from error
    check_config(config, source=str(file))
    return config


def config_parser(path: str | Path, overrides: Mapping[str, Any], *, name: str = "inference") -> ConfigParser:
    """A MONAI parser of one of a bundle's configs, with the bundle's root and other values set."""
    config = read_config(path, name=name)
    config.update({"bundle_root": str(Path(path).resolve()), **overrides})
    return ConfigParser(config)


def own_error(error: BaseException | None) -> RadclearError | None:
    """The radclear error inside MONAI's wrapping, else None."""
    while error is not None:
        if isinstance(error, RadclearError):
            return error
        error = error.__cause__ or error.__context__
    return None
