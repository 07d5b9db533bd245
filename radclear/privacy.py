"""Keep what could name a patient out of messages and results: hashes for identifiers, blanks in free text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

WITHHELD = "[withheld]"

# Words of our own messages that files are often called by. Standing alone in a sentence they say nothing
# about a patient, and blanking them would spoil it; as part of a path they are withheld. No word that is a
# usual name of people (case, mark, may, page, rose, sample, will) belongs here.
_PLAIN_WORDS = frozenset(
    "abdomen affine air and archive axes axial axis body chest columns coronal ct data dicom embedding "
    "embeddings export file files folder folders frame frames from gantry gap head header height "
    "hounsfield hu image images in input intercept label labels liver lung lungs mha mm modality model "
    "nifti not nrrd of orientation original out output pelvis phantom pixel pixels plane position "
    "positions reader result results rows sagittal scan scanner scans series shape slice slices slope "
    "soft spacing stack studies study tags the thorax tilt tissue to tumor values volume volumes voxel "
    "voxels weights width window windows with withheld zip".split()
)

_IN_PATH = r"[^\s'\",;:()]"
_PATTERNS = (
    re.compile(r"(?<![\w/])(?:[A-Za-z]:)?(?:[\\/][^\s\\/'\",;:()]+){2,}"),  # absolute paths
    re.compile(r"(?<![\w.])(?:2\.25\.\d+|\d+(?:\.\d+){4,})(?!\w)"),  # UIDs; 2.25 is the root of UUIDs
    re.compile(r"\b[\w'-]+(?:\^[\w'.-]*)+"),  # DICOM person names
    re.compile(
        r"(?<![\w.])(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{6}(?:\.\d+)?)?(?![\w.])"
    ),  # DA, DT
    re.compile(r"(?<!\d)(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?!\d)"),  # ISO dates
    re.compile(
        r"[^\s'\"()]+\.(?:dcm|dicom|ima|zip|nii(?:\.gz)?|nrrd|mha|mhd)\b", re.IGNORECASE
    ),  # file names
)


def hash_uid(uid: str) -> str | None:
    """sha256 of a UID as hexadecimal digits; None where there is no UID."""
    return hashlib.sha256(uid.encode()).hexdigest() if uid else None


def redact(text: str, *, private: Iterable[str] = ()) -> str:
    """Replace whatever in a sentence could identify a patient by ``[withheld]``.

    Messages are written without identifiers in the first place; this is the second lock on the door. A
    private string is withheld in any case of its letters and together with the path that it is part of. Alone
    in a sentence it is withheld unless it is one of our own words (`series`, `chest`), a letter, or a number
    of up to three digits, which say nothing about a patient.

    Args:
        text: a sentence for people.
        private: strings known to be private, for example UIDs and the name of the source folder.

    Returns:
        The sentence without the private strings, paths, file names, UIDs, dates and DICOM person names.
    """
    for secret in sorted(_spellings(private), key=len, reverse=True):
        if secret.casefold() in text.casefold():
            text = _without(text, secret)
    for pattern in _PATTERNS:
        text = pattern.sub(WITHHELD, text)
    return text


def path_names(path: Path | str | None) -> tuple[str, ...]:
    """The strings by which a message could name a path: all of it, its last part, that without suffix."""
    if path is None or not str(path):
        return ()
    path = Path(path)
    return tuple(dict.fromkeys((str(path), path.as_posix(), path.name, path.name.split(".")[0])))


def _spellings(private: Iterable[str]) -> Iterator[str]:
    """Each secret that has a letter or digit, with its accents composed and taken apart."""
    for secret in {s for s in private if s and any(c.isalnum() for c in s)}:
        yield from {secret, *(unicodedata.normalize(form, secret) for form in ("NFC", "NFD"))}


def _without(text: str, secret: str) -> str:
    # Underscores and signs end a name: DOE is withheld in DOE_JANE, too.
    name = rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])"
    text = re.sub(
        rf"{_IN_PATH}*[\\/]{name}{_IN_PATH}*|{name}[\\/]{_IN_PATH}*", WITHHELD, text, flags=re.IGNORECASE
    )
    if _says_nothing(secret):
        return text
    return re.sub(name, WITHHELD, text, flags=re.IGNORECASE)


def _says_nothing(word: str) -> bool:
    if word.isascii() and (len(word) == 1 or (word.isdigit() and len(word) <= 3)):
        return True
    return word.lower() in _PLAIN_WORDS
