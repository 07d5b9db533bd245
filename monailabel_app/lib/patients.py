"""Which studies are of one patient, where the files do not tell: a table that the administrator gives.

No PatientID is read from NIfTI, NRRD and MHA files and zips, so each counts as a patient of its own unless
the table names it. Patients are kept as hashes only.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from radclear.cohort.patients import hashed_patient as hashed
from radclear.ct import study_key
from radclear.errors import RadclearError

COLUMNS = ("study", "patient")
_KEY = re.compile(r"study-[0-9a-f]{16}")


class PatientsError(RadclearError):
    """The table of patients cannot be used."""


class Patients:
    """Study → patient, as hashes."""

    def __init__(self, found: Mapping[str, str]) -> None:
        """
        Args:
            found: key of the study → hash of the patient.
        """
        self._found = dict(found)

    def of(self, key: str) -> str | None:
        """The hash of a study's patient; None where the table does not name the study."""
        return self._found.get(key)

    def unknown(self, keys: Collection[str]) -> int:
        """How many studies of the table are not among some keys."""
        return len(set(self._found) - set(keys))

    def __len__(self) -> int:
        return len(self._found)


def read_patients(path: str | Path) -> Patients:
    """The table, checked.

    Args:
        path: CSV with the columns `study` (a name as the store has it, or an id) and `patient` (any name or
            number that is the same for all studies of the patient).

    Raises:
        PatientsError: no file, no such columns, an empty cell, a study named twice, no row; says which line
            and never repeats what stands there.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            found = _read(lines)
    except OSError as error:
        raise PatientsError(
            f"the table of patients cannot be read ({error.strerror}); correct --conf patients FILE"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PatientsError(
            "the table of patients is no CSV in UTF-8; expected columns study,patient separated by commas"
        ) from error
    if not found:
        raise PatientsError(
            "the table of patients has no rows; add one per study, or leave --conf patients out"
        )
    return Patients(found)


def _read(lines) -> dict[str, str]:
    head = [name.strip() for name in next(lines, [])]
    if any(head.count(name) != 1 for name in COLUMNS):
        raise PatientsError(
            f"the first line of the table of patients does not name the columns {' and '.join(COLUMNS)} once "
            "each; expected study,patient separated by commas"
        )
    found: dict[str, str] = {}
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue  # an empty line, as at the end
        if len(cells) != len(head):
            raise PatientsError(
                f"line {lines.line_num} of the table of patients has {len(cells)} cells; expected {len(head)}"
            )
        study, patient = (cells[head.index(name)].strip() for name in COLUMNS)
        if not study or not patient:
            raise PatientsError(
                f"line {lines.line_num} of the table of patients names no {'patient' if study else 'study'}"
            )
        key = study if _KEY.fullmatch(study) else study_key(study)
        if key in found:
            raise PatientsError(
                f"line {lines.line_num} of the table of patients names a study for the second time; each is "
                "of one patient"
            )
        found[key] = hashed(patient)
    return found
