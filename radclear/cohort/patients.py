"""When two names of patients mean the same one, and which splits evaluate nobody."""

from __future__ import annotations

#: What the `split` column of a table may say of a patient whom no evaluation uses.
TRAINING_SPLITS = ("train", "training")


def patient_key(patient: str) -> str:
    """A patient's name as it is compared: `002648`, `2648` and ` 2648.0` are one patient."""
    text = str(patient).strip()
    whole, point, zeros = text.partition(".")
    if whole.isdigit() and (not point or set(zeros) <= {"0"}):
        return whole.lstrip("0") or "0"
    return text
