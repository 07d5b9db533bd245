"""Options of the app: what `start_server --conf KEY VALUE` may set. Unknown keys are refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from radclear.cli.catalog import TASKS
from radclear.errors import RadclearError

_OF_MONAI_LABEL = ("server_mode",)  # keys that MONAI Label itself looks for in the same place
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_GIB = 2**30


class OptionError(RadclearError):
    """An option of the app is unknown or has an impossible value."""


def _option(convert: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"convert": convert})


def _number(lowest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        number = int(text)
        if number < lowest:
            raise ValueError(f"expected a whole number from {lowest}")
        return number

    return convert


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError("expected seconds above 0")
    return number


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.lower() == "true"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def _tasks(text: str) -> tuple[str, ...]:
    names = _names(text)
    if not names or set(names) - set(TASKS):
        raise ValueError(f"expected some of {', '.join(TASKS)}")
    return names


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return convert


@dataclass(frozen=True)
class Options:
    """The app's options; each can be set with `--conf`.

    Attributes:
        tasks: questions that are answered.
        bundles: folder of the bundles; found as the command line finds it when omitted.
        backbone: folder of another backbone bundle for all heads.
        device: `auto`, `cpu`, `cuda`, `cuda:1` …
        precision, batch_size, policy: as on radclear's command line.
        data: folder for audit, uploads, stored results and converted volumes; never inside the studies.
        hosts: names under which the server may be reached from other machines; none: from this one only.
        waiting: most inference requests that wait; one runs. More are refused with 429.
        timeout: seconds after which a client gets 504 instead of its answer.
        cache_mib: most memory for embeddings.
        volumes_mib: most disk for volumes converted from DICOM.
        pictures_mib: most memory for the pixels of studies that the results page shows.
        upload_mib: largest image that can be uploaded.
        uploads_gib: most disk for uploaded images altogether.
        memory_gib: largest decoded study.
        rescan: seconds between looks at the folder of studies.
        ohif: serve OHIF and the archive's images to readers, where the studies come from a DICOMweb server.
        identifiers: show study names and UIDs to clients; the log and the audit never have them.
        base_labels, base_embeddings: label table and embeddings that heads are trained from beside verdicts.
        patients: table of studies and patients, for files that do not tell whose they are.
    """

    tasks: tuple[str, ...] = _option(_tasks, tuple(TASKS))
    bundles: str | None = _option(str, None)
    backbone: str | None = _option(str, None)
    device: str = _option(str, "auto")
    precision: str = _option(_one_of("auto", "float32", "bfloat16", "float16"), "auto")
    batch_size: int = _option(_number(1), 8)
    policy: str = _option(_one_of("warn", "strict"), "warn")
    data: str | None = _option(str, None)
    hosts: tuple[str, ...] = _option(_names, ())
    waiting: int = _option(_number(0), 8)
    timeout: float = _option(_seconds, 600.0)
    cache_mib: int = _option(_number(0), 256)
    volumes_mib: int = _option(_number(1), 4096)
    pictures_mib: int = _option(_number(1), 1024)
    upload_mib: int = _option(_number(1), 1024)
    uploads_gib: int = _option(_number(1), 50)
    memory_gib: int = _option(_number(1), 4)
    rescan: float = _option(_seconds, 30.0)
    ohif: bool = _option(_switch, True)
    identifiers: bool = _option(_switch, False)
    base_labels: str | None = _option(str, None)
    base_embeddings: str | None = _option(str, None)
    patients: str | None = _option(str, None)

    @property
    def memory_cap_bytes(self) -> int:
        return self.memory_gib * _GIB

    def data_folder(self, studies: str) -> Path:
        """Where the app keeps what it writes; made if missing, readable by its user only.

        Args:
            studies: folder or address of the studies, as MONAI Label has it.

        Raises:
            OptionError: the folder lies inside the studies, whose originals are left untouched, or the other
                way round.
        """
        if self.data is None:
            state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
            folder = Path(state) / "radclear" / hashlib.sha256(studies.encode()).hexdigest()[:16]
        else:
            folder = Path(self.data)
        folder = folder.resolve()
        if not is_remote(studies):
            root = Path(studies).resolve()
            if folder.is_relative_to(root) or root.is_relative_to(folder):
                raise OptionError(
                    f"data is {folder}, and the studies are in {root}: one lies in the other. Name another "
                    "folder: --conf data FOLDER"
                )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def is_remote(studies: str) -> bool:
    """Whether the studies come from a DICOMweb server."""
    return studies.startswith(("http://", "https://"))


def read_options(conf: Mapping[str, str] | None) -> Options:
    """The options that were given, checked.

    Args:
        conf: what MONAI Label hands to an app: key → text.

    Raises:
        OptionError: an unknown key, or a value that the option cannot have; the message says what it can.
    """
    known = {entry.name: entry for entry in fields(Options)}
    chosen = {}
    for key, text in (conf or {}).items():
        if key in _OF_MONAI_LABEL:
            continue
        if key not in known:
            raise OptionError(f"--conf {key} is unknown; expected one of {', '.join(known)}")
        try:
            chosen[key] = known[key].metadata["convert"](str(text))
        except ValueError as error:
            raise OptionError(f"--conf {key} is {text!r}: {error}") from None
    options = Options(**chosen)
    if (options.base_labels is None) != (options.base_embeddings is None):
        raise OptionError("base_labels and base_embeddings go together; give both or none")
    return options
