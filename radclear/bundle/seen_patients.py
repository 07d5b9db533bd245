"""Whom weights were trained on: kept beside them as hashes, so that nobody is evaluated whom they have seen.

`models/model_patients.json` belongs to `models/model.pt`:

    {"trained_on": {"<sha256 of the weights>": ["<hash of a patient>", …],
                    "<sha256 of the weights they started from>": […]},
     "complete": true}

`complete` is false where it is not known whom the weights were trained on from which these started. A hash is
PBKDF2-HMAC-SHA256 of `radclear.cohort.patients.hashed_forms` of the patient's name with the sha256 of the
weights as salt, cut to 16 digits; it is the same for a name and for the hash that the MONAI Label app puts in
its place. It names nobody, but whoever has a list of names can find out which of them took part:
`radclear pack` leaves the file out, and so should anybody who passes weights on without being allowed to say
that.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radclear.bundle.location import BundleError
from radclear.cohort.patients import hashed_forms
from radclear.results import write_atomically

logger = logging.getLogger(__name__)

SUFFIX = "_patients.json"
CHOICES = ("refuse", "report")
_ITERATIONS, _DIGITS = 1000, 16
_MAX_NAMED = 5


class SeenPatientsError(BundleError):
    """Patients that weights were trained on would be evaluated."""


@dataclass(frozen=True)
class Seen:
    """Which of some patients took part in making weights.

    Attributes:
        patients: as they were asked about.
        on_record: `all`, `part` (not of the weights that these started from) or `nothing`: of whom the
            weights have seen.
    """

    patients: tuple[str, ...]
    on_record: str

    def as_dict(self) -> dict[str, Any]:
        """For a record: the number, and how much it can be relied on."""
        return {"n_patients": len(self.patients), "on_record": self.on_record}


def record_of(weights: str | Path) -> dict[str, Any]:
    """What is on record of a weight file, in the form of its file; of `timm:NAME` and the like, nothing."""
    path = Path(weights)
    if not path.is_file():
        return {"trained_on": {}, "complete": False}
    return _read(path, hashlib.sha256(path.read_bytes()).hexdigest())


def record_patients(
    weights: Path,
    patients: Iterable[str] | None,
    *,
    sha256: str,
    started_from: Mapping[str, Any] | None = None,
) -> None:
    """Write down whom a weight file was trained on; without patients, take away what was written before.

    Args:
        weights: the weight file.
        patients: whom it was trained on, None where that is not known.
        sha256: of the weights.
        started_from: `record_of` the weights that training started from, which is taken over.
    """
    file = _file_of(weights)
    if patients is None:
        file.unlink(missing_ok=True)
        return
    before = started_from or {"trained_on": {}, "complete": True}
    forms = set().union(*map(hashed_forms, patients))
    own = {sha256: sorted(_hash(form, sha256) for form in forms)}
    record = {"trained_on": before["trained_on"] | own, "complete": before["complete"]}
    write_atomically(file, (json.dumps(record, indent=1) + "\n").encode())


def seen_patients(weights: Path, patients: Iterable[str]) -> Seen:
    """Which of these patients a weight file was trained on.

    Args:
        weights: the weight file; a record of others that were there before counts for nothing.
        patients: to ask about.
    """
    record = record_of(weights)
    forms = {patient: hashed_forms(patient) for patient in patients}
    found: set[str] = set()
    for salt, hashes in record["trained_on"].items():
        known = frozenset(hashes)
        found |= {name for name, own in forms.items() if any(_hash(form, salt) in known for form in own)}
    on_record = "all" if record["complete"] else "part" if record["trained_on"] else "nothing"
    return Seen(tuple(sorted(found)), on_record)


def check_unseen(weights: Path, studies: Mapping[str, str], *, choice: str = "refuse") -> Seen:
    """Refuse, or report, an evaluation of patients that a bundle's weight file was trained on.

    Args:
        weights: see `seen_patients`.
        studies: patient → key of a study, by which the message names the patient.
        choice: `refuse`; or `report`, to warn and go on, where equal names are of different patients, or the
            result is to be read with that in mind.

    Raises:
        SeenPatientsError: there are some, and they are refused.
    """
    if choice not in CHOICES:
        raise BundleError(f"seen_patients is {choice!r}; expected {' or '.join(CHOICES)}")
    seen = seen_patients(weights, studies)
    if seen.patients:
        more = len(seen.patients) - _MAX_NAMED
        bundle = weights.parent.parent.name
        text = (
            f"{len(seen.patients)} patients to be evaluated are among those that {bundle} was trained on, "
            f"those of {', '.join(studies[patient] for patient in seen.patients[:_MAX_NAMED])}"
            f"{f' and {more} more' if more > 0 else ''}. Every figure would look too good"
        )
        if choice == "refuse":
            raise SeenPatientsError(
                f"{text}; take them out of the table or its evaluated splits. If they are other patients who "
                "happen to have the same names, say so: seen_patients report"
            )
        logger.warning("%s, unless these are other patients of the same names", text)
    return seen


def _file_of(weights: Path) -> Path:
    return weights.with_name(weights.stem + SUFFIX)


def _read(weights: Path, sha256: str) -> dict[str, Any]:
    try:
        record = json.loads(_file_of(weights).read_text(encoding="utf-8"))
        whole = isinstance(record["trained_on"], dict) and isinstance(record["complete"], bool)
    except FileNotFoundError:
        return {"trained_on": {}, "complete": False}
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise BundleError(
            f"{_file_of(weights)} is damaged; take it from where the weights came from, or delete "
            "it, and nothing is on record"
        )
    if sha256 not in record["trained_on"]:
        return {"trained_on": {}, "complete": False}
    return record


def _hash(form: str, salt: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", form.encode(), bytes.fromhex(salt), _ITERATIONS)
    return digest.hex()[:_DIGITS]
