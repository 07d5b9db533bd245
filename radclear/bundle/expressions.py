"""What the code inside a bundle config may do, so that a config stays a description.

MONAI evaluates every string that starts with `$` and calls whatever `_target_` names. radclear loads a bundle
only if its expressions are arithmetic, indexing, attributes and calls into stated parts of monai, torch and
radclear, and its targets lie there too. This keeps surprises out of a downloaded bundle; it is no sandbox for
code that wants to do harm.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from typing import Any

from radclear.errors import RadclearError

ALLOWED = (
    "radclear",
    *(
        f"monai.{part}"
        for part in ("data", "engines", "handlers", "inferers", "losses", "metrics", "networks")
    ),
    *(f"monai.{part}" for part in ("optimizers", "transforms", "utils.set_determinism")),
    *(f"torch.{part}" for part in ("device", "nn", "optim", "tensor", "utils.data")),
)
_IMPORTABLE = ("radclear", "monai", "torch")
_REFERENCE = re.compile(r"@(?:#|::)*\w+(?:(?:#|::)\w+)*")
_REFERENCE_NAME = "_reference_"
_ALLOWED_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Attribute, ast.Call, ast.keyword, ast.Subscript,
    ast.Slice, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.List, ast.Tuple, ast.Dict,
)  # fmt: skip
_REFUSED_METHODS = frozenset({"format", "format_map"})  # their text can reach into objects


class UnsafeExpressionError(RadclearError):
    """A config's expression or target does more than describe."""


def check_config(config: Any, *, source: str = "config") -> None:
    """Refuse a config whose expressions or targets do more than they may.

    Args:
        config: parsed JSON of a config file.
        source: how to call the config in the message.

    Raises:
        UnsafeExpressionError: names the key, the text and what was found in it.
    """
    for key, text in _strings(config):
        try:
            if key.rsplit("#", 1)[-1] == "_target_":
                _check_dotted(text)
            elif text.startswith("$"):
                check_expression(text)
            elif text.startswith("%"):
                raise UnsafeExpressionError(
                    f"{text!r} takes its content from another place, which is not checked"
                )
        except UnsafeExpressionError as error:
            raise UnsafeExpressionError(f"{source}: {key}: {error}") from None


def _strings(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings in a config with the path of their keys."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _strings(value, f"{key}#{name}" if key else str(name))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _strings(value, f"{key}#{index}")
    elif isinstance(config, str):
        yield key, config


def check_expression(text: str) -> None:
    """Refuse one expression, such as `$@dataset_dir + '/labels.csv'`, that does more than it may.

    Raises:
        UnsafeExpressionError: says what was found.
    """
    source = text.removeprefix("$").strip()
    if source.startswith(("import ", "from ")):
        _check_import(source)
        return
    try:
        tree = ast.parse(_REFERENCE.sub(_REFERENCE_NAME, source), mode="eval")
    except SyntaxError as error:
        raise UnsafeExpressionError(f"{text!r} is not an expression ({error.msg})") from None
    inner = set()  # nodes that are the left part of a dotted name already checked as a whole
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED_NODES):
            raise UnsafeExpressionError(f"{text!r} uses {type(node).__name__}")
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            raise UnsafeExpressionError(
                f"{text!r} calls something that is not a member of a package or object"
            )
        if isinstance(node, (ast.Attribute, ast.Name)) and node not in inner:
            name = _dotted_name(node, inner)
            if name is None or name.startswith(_REFERENCE_NAME):
                continue
            _check_dotted(name)
        if isinstance(node, ast.Attribute) and (node.attr.startswith("_") or node.attr in _REFUSED_METHODS):
            raise UnsafeExpressionError(f"{text!r} uses {node.attr!r}")


def _dotted_name(node: ast.expr, inner: set[ast.AST]) -> str | None:
    """`a.b.c` of nested attributes that start at a plain name, else None; notes nested nodes in `inner`."""
    parts = []
    while isinstance(node, ast.Attribute):
        if node.attr.startswith("_") or node.attr in _REFUSED_METHODS:
            raise UnsafeExpressionError(f"an expression uses {node.attr!r}")
        parts.append(node.attr)
        node = node.value
        inner.add(node)
    if not isinstance(node, ast.Name):
        return None
    return ".".join((node.id, *reversed(parts)))


def _check_dotted(name: str) -> None:
    """Refuse a dotted name outside the allowed parts, or through a private or standard module."""
    if not any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED):
        raise UnsafeExpressionError(f"{name!r} is not in {', '.join(ALLOWED)}")
    for part in name.split(".")[1:]:
        if part.startswith("_") or part in _REFUSED_METHODS or part in sys.stdlib_module_names:
            raise UnsafeExpressionError(f"{name!r} passes through {part!r}")


def _check_import(source: str) -> None:
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise UnsafeExpressionError(f"{source!r} is not an import ({error.msg})") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Import):
        raise UnsafeExpressionError(f"{source!r} is not a plain `import package`")
    for alias in statements[0].names:
        if alias.asname is not None:
            raise UnsafeExpressionError(f"{source!r} renames what it imports")
        if alias.name.split(".")[0] not in _IMPORTABLE:
            raise UnsafeExpressionError(f"{source!r} imports from outside {', '.join(_IMPORTABLE)}")
