"""Options of `python -m monai.bundle run` that would not do what they say, and of which MONAI tells nothing.

It takes any option, so typing errors go unseen; and `--resume false` is the text "false" to it, which is as
good as True.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any

from radclear.bundle.location import BundleError, config_paths
from radclear.errors import RadclearError

#: What Fire, which reads MONAI's command lines, takes for an option.
_FLAG = re.compile(r"(?:--|-(?=[A-Za-z]))(?P<name>[^=]+)(?:=(?P<value>.*))?", re.DOTALL)
_LEVEL = re.compile(r"#|::")
_MONAI_RUNS = ("monai", "bundle", "__main__.py")


def check_options(argv: Sequence[str] | None = None) -> None:
    """End the process with exit code 2 and one plain sentence where an option would not do what it says.

    It is no key of the configs, or gives true or false as text where the config has one of the two.

    Only what was typed after `python -m monai.bundle run`, and what its `--args_file` holds, is looked at; a
    config that runs in another way or is not JSON is left alone.

    Args:
        argv: of the process; its own when omitted.
    """
    try:
        _check(sys.argv if argv is None else argv)
    except RadclearError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _check(argv: Sequence[str]) -> None:
    if Path(argv[0]).parts[-3:] != _MONAI_RUNS or argv[1:2] != ["run"]:
        return
    options = list(_typed(argv[2:]))
    options += [known for name, value in options if name == "args_file" for known in _written(Path(value))]
    files = [file for name, value in options if name == "config_file" for file in config_paths(value)]
    if not files or any(file.suffix != ".json" or not file.is_file() for file in files):
        return
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    keys = {_LEVEL.split(key)[0] for config in configs for key in config}
    for name, value in options:
        if not _known(name, keys):
            raise BundleError(_unknown(name, keys, files))
        meant = value.capitalize()
        if meant in ("True", "False") and value != meant and _is_switch(name, configs):
            raise BundleError(f"--{name} {value} is text, which is as good as True; write {meant}")


def _typed(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each option, as Fire reads them."""
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument == "--":  # what follows is for Fire itself
            return
        if flag := _FLAG.match(argument):
            yield flag["name"].replace("-", "_"), following if flag["value"] is None else flag["value"]


def _written(file: Path) -> list[tuple[str, str]]:
    """The same of a file of arguments, which has them for what is not typed."""
    if file.suffix != ".json" or not file.is_file():
        return []
    return [(name, str(value)) for name, value in json.loads(file.read_text(encoding="utf-8")).items()]


def _known(typed: str, keys: Collection[str]) -> bool:
    from monai.bundle import ConfigWorkflow, create_workflow, run

    takers = (run, create_workflow, ConfigWorkflow)  # run hands on what it does not know
    own = set().union(*(inspect.signature(taker).parameters for taker in takers)) - {"override", "kwargs"}
    name = _LEVEL.split(typed.lstrip("+~"))[0]
    return name in keys or name in own or name.startswith("_") or name.removeprefix("no") in keys


def _is_switch(typed: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a config has true or false under this key."""
    for config in configs:
        value: Any = config
        for level in _LEVEL.split(typed.lstrip("+~")):
            value = value.get(level) if isinstance(value, Mapping) else None
        if isinstance(value, bool):
            return True
    return False


def _unknown(typed: str, keys: Collection[str], files: Sequence[Path]) -> str:
    where = " and ".join(file.name for file in files)
    alike = get_close_matches(_LEVEL.split(typed)[0], sorted(keys), n=1)
    hint = f"did you mean --{alike[0]}?" if alike else f"its keys are {', '.join(sorted(keys))}"
    return f"--{typed} is no key of {where}, and would do nothing; {hint}"
