"""T, N and M from the lesions of a patient, and the stage that follows.

The rules are the phantom's own, shaped like the UICC system but the same for every primary site:

==== =====================================================================
T1   primary up to 30 mm
T2   primary above 30 mm, up to 50 mm
T3   primary above 50 mm
T4   one or more satellite lesions in the organ of the primary
N0   no enlarged node
N1   one or two enlarged regional nodes
N2   three or more enlarged regional nodes
M0   no lesion in a further organ
M1   at least one metastasis in a further organ
==== =====================================================================

Stage: M1 is IV. Otherwise N2, T3 and T4 are III; T2, and T1 with N1, are II; T1 N0 is I.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from radclear.phantom.labels import LESION_KINDS, LOCATION_CLASSES

T_CLASSES = ("T1", "T2", "T3", "T4")
N_CLASSES = ("N0", "N1", "N2")
M_CLASSES = ("M0", "M1")
T1_MAX_MM = 30.0
T2_MAX_MM = 50.0

#: (T, N) to stage where M is M0.
STAGE_TABLE_M0 = {
    ("T1", "N0"): "I",
    ("T1", "N1"): "II",
    ("T1", "N2"): "III",
    ("T2", "N0"): "II",
    ("T2", "N1"): "II",
    ("T2", "N2"): "III",
    ("T3", "N0"): "III",
    ("T3", "N1"): "III",
    ("T3", "N2"): "III",
    ("T4", "N0"): "III",
    ("T4", "N1"): "III",
    ("T4", "N2"): "III",
}


@dataclass(frozen=True)
class PlannedLesion:
    """A tumor lesion that a patient has, before it is drawn.

    Attributes:
        site: one of LOCATION_CLASSES; a node's site is that of its station.
        kind: one of LESION_KINDS.
        diameter_mm: longest diameter in the axial plane.
    """

    site: str
    kind: str
    diameter_mm: float

    def __post_init__(self) -> None:
        if self.site not in LOCATION_CLASSES:
            raise ValueError(f"lesion site is {self.site!r}; expected one of {', '.join(LOCATION_CLASSES)}")
        if self.kind not in LESION_KINDS:
            raise ValueError(f"lesion kind is {self.kind!r}; expected one of {', '.join(LESION_KINDS)}")
        if not self.diameter_mm > 0:
            raise ValueError(f"lesion diameter_mm is {self.diameter_mm}; expected a positive length")


def tnm(lesions: Iterable[PlannedLesion]) -> tuple[str, str, str]:
    """T, N and M of a patient by the rules at the top of this module.

    Args:
        lesions: all tumor lesions of one patient, with exactly one of kind "primary", or none at all.

    Returns:
        For example ("T2", "N0", "M0"); three empty strings where there are no lesions.

    Raises:
        ValueError: there are lesions but not exactly one primary, or a metastasis or satellite in the wrong
            organ.
    """
    lesions = tuple(lesions)
    if not lesions:
        return "", "", ""
    primaries = [lesion for lesion in lesions if lesion.kind == "primary"]
    if len(primaries) != 1:
        raise ValueError(f"found {len(primaries)} primary lesions; a patient with tumor has exactly one")
    primary = primaries[0]
    satellites = [lesion for lesion in lesions if lesion.kind == "satellite"]
    metastases = [lesion for lesion in lesions if lesion.kind == "metastasis"]
    n_nodes = sum(lesion.kind == "node" for lesion in lesions)
    if any(lesion.site != primary.site for lesion in satellites):
        raise ValueError(f"a satellite lesion lies outside {primary.site}, the organ of the primary")
    if any(lesion.site == primary.site for lesion in metastases):
        raise ValueError(
            f"a metastasis lies in {primary.site}, the organ of the primary; call it a satellite"
        )

    if satellites:
        t = "T4"
    elif primary.diameter_mm > T2_MAX_MM:
        t = "T3"
    elif primary.diameter_mm > T1_MAX_MM:
        t = "T2"
    else:
        t = "T1"
    n = "N0" if n_nodes == 0 else "N1" if n_nodes <= 2 else "N2"
    return t, n, "M1" if metastases else "M0"


def stage_of(t: str, n: str, m: str) -> str:
    """Stage I to IV of T, N and M; empty where all three are empty (no tumor).

    Raises:
        ValueError: a class that this module does not know.
    """
    if (t, n, m) == ("", "", ""):
        return ""
    if t not in T_CLASSES or n not in N_CLASSES or m not in M_CLASSES:
        raise ValueError(
            f"found {t!r}, {n!r}, {m!r}; expected one of {', '.join(T_CLASSES)}, "
            f"one of {', '.join(N_CLASSES)} and one of {', '.join(M_CLASSES)}"
        )
    return "IV" if m == "M1" else STAGE_TABLE_M0[t, n]
