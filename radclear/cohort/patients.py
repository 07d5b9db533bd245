"""When two names of patients mean the same one, their hashes, and which splits evaluate nobody."""

from __future__ import annotations

import hashlib
import re

#: What the `split` column of a table may say of a patient whom no evaluation uses.
TRAINING_SPLITS = ("train", "training")

_HASHED = re.compile(r"patient-[0-9a-f]{16}")


def hashed_patient(patient: str) -> str:
    """A patient's name or number as `patient-` and 16 hexadecimal digits of its sha256."""
    return "patient-" + hashlib.sha256(patient.encode()).hexdigest()[:16]


def hashed_forms(patient: str) -> set[str]:
    """`hashed_patient` of a name as it stands and as it is compared; a hash stands for itself."""
    name = str(patient).strip()
    if _HASHED.fullmatch(name):
        return {name}
    return {hashed_patient(form) for form in {name, patient_key(name)} if form}


def patient_key(patient: str) -> str:
    """A patient's name as it is compared: `002648`, `2648` and ` 2648.0` are one patient."""
    text = str(patient).strip()
    whole, point, zeros = text.partition(".")
    if whole.isdigit() and (not point or set(zeros) <= {"0"}):
        return whole.lstrip("0") or "0"
    return text
