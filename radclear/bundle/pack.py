"""Pack a bundle with library and backbone as a zoo zip that needs nothing but its required packages.

Equal bundles give equal bytes: members are sorted, stored uncompressed (compressors differ between machines),
and carry one fixed time, fixed permissions and no extra fields.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path, PurePosixPath

import radclear
from radclear.bundle import seen_patients
from radclear.bundle.location import METADATA, BundleError, find_backbone, read_metadata
from radclear.bundle.runs import check_bundle
from radclear.bundle.weights import role

LARGE_FILE_BYTES = 25_000_000  # the zoo keeps larger files elsewhere and lists them in large_files.yml
LARGE_FILES = "large_files.yml"
_TIME = (1980, 1, 1, 0, 0, 0)
_BUNDLE_SUFFIXES = {".json", ".md", ".txt", ".conf", ".pt", ".ts", ".yml", ".yaml", ".png"}
_CODE_SUFFIXES = {".py", ".c", ".cpp", ".h", ".cu"}
_LIBRARY_SUFFIXES = _CODE_SUFFIXES | {".json", ".html", ".css", ".js", ".svg", ".txt", ".typed"}


def pack_bundle(
    bundle_dir: str | Path,
    output_dir: str | Path,
    *,
    large_file_url: str | None = None,
    large_file_bytes: int = LARGE_FILE_BYTES,
) -> Path:
    """Write `<name>_v<version>.zip` for `python -m monai.bundle download`.

    Args:
        bundle_dir: a backbone bundle, or a head bundle whose backbone bundle is where its config says.
        output_dir: folder of the zip.
        large_file_url: where files of more than `large_file_bytes` will be served, as
            `<url>/<name>_v<version>/<path>`; they are then written to that path below `output_dir`, left out
            of the zip, and listed in `large_files.yml`.
        large_file_bytes: see above.

    Returns:
        The zip.

    Raises:
        BundleError: weights are missing, damaged or do not belong together; a file is too large and there is
        no URL.
    """
    root = Path(bundle_dir).resolve()
    metadata = read_metadata(root)
    name, version = metadata["name"], metadata["version"]
    members = _bundle_members(root)
    if role(metadata, root) == "head":
        backbone = _backbone_of(root)
        check_bundle(root, backbone_bundle=backbone)
        inside = PurePosixPath("backbones") / read_metadata(backbone)["name"]
        members |= {inside / path: content for path, content in _bundle_members(backbone).items()}
        members |= _configs_with_backbone(root, str(inside))
    else:
        check_bundle(root)
    members |= _library_members()
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_v{version}"
    _leave_out_large_files(members, output / stem, url=large_file_url, limit=large_file_bytes)
    target = output / f"{stem}.zip"
    temporary = output / f".{stem}.{os.getpid()}.tmp"
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(str(PurePosixPath(name) / path), date_time=_TIME)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[path])
    temporary.replace(target)
    return target


def _bundle_members(root: Path) -> dict[PurePosixPath, bytes]:
    """Path in the bundle → content, of everything that belongs to it."""
    if not (root / "LICENSE").is_file():
        raise BundleError(f"{root} has no LICENSE; the zoo takes no bundle without one")
    members = {PurePosixPath("LICENSE"): (root / "LICENSE").read_bytes()}
    for folder in ("configs", "docs", "models"):
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and file.suffix in _BUNDLE_SUFFIXES and not _stays(file.name):
                members[PurePosixPath(file.relative_to(root).as_posix())] = file.read_bytes()
    return members


def _stays(name: str) -> bool:
    """Whether a file is for this place only: hidden, or whom the weights were trained on."""
    return name.startswith(".") or name.endswith(seen_patients.SUFFIX)


def _library_members() -> dict[PurePosixPath, bytes]:
    """Path → content of the library that is running, without what was compiled on this machine."""
    package = Path(radclear.__file__).resolve().parent
    return {
        PurePosixPath("radclear") / file.relative_to(package).as_posix(): file.read_bytes()
        for file in sorted(package.rglob("*"))
        if file.is_file() and file.suffix in _LIBRARY_SUFFIXES and "__pycache__" not in file.parts
    }


def _backbone_of(root: Path) -> Path:
    config = json.loads((root / "configs" / "inference.json").read_text(encoding="utf-8"))
    if "backbone_bundle" not in config:
        raise BundleError(f"{root}/configs/inference.json names no backbone_bundle")
    return find_backbone(root, config["backbone_bundle"])


def _configs_with_backbone(root: Path, backbone_bundle: str) -> dict[PurePosixPath, bytes]:
    """The configs that name a backbone, naming the one inside the zip."""
    changed = {}
    for file in sorted((root / "configs").glob("*.json")):
        config = json.loads(file.read_text(encoding="utf-8"))
        if file.name != METADATA.name and "backbone_bundle" in config:
            config["backbone_bundle"] = backbone_bundle
            text = json.dumps(config, indent=4, ensure_ascii=False) + "\n"
            changed[PurePosixPath("configs") / file.name] = text.encode("utf-8")
    return changed


def _leave_out_large_files(
    members: dict[PurePosixPath, bytes], folder: Path, *, url: str | None, limit: int
) -> None:
    """Move what is too large out of the members, into `folder` and `large_files.yml`."""
    large = [path for path, content in sorted(members.items()) if len(content) > limit]
    if not large:
        return
    if url is None:
        sizes = ", ".join(f"{path} ({len(members[path]) / 1e6:.0f} MB)" for path in large)
        raise BundleError(
            f"too large for the zip: {sizes}; the limit is {limit / 1e6:.0f} MB. Give large_file_url, where "
            "these files "
            "will be served, or store the weights with dtype='float16'"
        )
    lines = ["large_files:"]
    for path in large:
        content = members.pop(path)
        address = f"{url.rstrip('/')}/{folder.name}/{path}"
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        lines += [
            f"- path: {json.dumps(str(path))}",
            f"  url: {json.dumps(address)}",
            f"  hash_val: {hashlib.sha256(content).hexdigest()}",
            "  hash_type: sha256",
        ]
    members[PurePosixPath(LARGE_FILES)] = ("\n".join(lines) + "\n").encode("utf-8")
