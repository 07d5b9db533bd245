"""Patients with lesions in every organ: far more than anybody has, so that an encoder sees many of them soon.

A patient of :mod:`radclear.phantom.disease` has a handful of lesions, and one slice in ten shows one. For the
supervised warm-up of an encoder that is a waste of phantoms. A crowded patient has some forty, of every site
and size, so that four slices in five show one. Heads are never trained on them: the rules make them stage IV.

What is easily learnt from them is where lesions tend to be, not what they look like. Twins prevent it: two
patients with one body, scanned alike down to the noise, who share a crowded patient's lesions between them.
Where one has a lesion, the other nearly always shows the same place without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from radclear.phantom.disease import NODE_DIAMETER_MM, NODE_STATION, Patient, draw_patient, stream
from radclear.phantom.labels import DISEASE_CLASSES, LOCATION_CLASSES, NODULE_MAX_MM
from radclear.phantom.staging import PlannedLesion

LESIONS_OF_A_SITE = (2, 6)
NODES_OF_A_STATION = (0, 4)
SMALL_MM, LARGE_MM = (14.0, 36.0), (30.0, 65.0)
LARGE_SHARE = 0.2


def draw_crowded_patient(seed: int) -> Patient:
    """The patient of this seed with other lesions: two to six in each site, and enlarged nodes.

    Diameters are drawn uniformly in their logarithm, so that small lesions are frequent.

    Args:
        seed: a whole number from 0.

    Raises:
        ValueError: the seed is negative or not a whole number.
    """
    patient = draw_patient(seed)
    rng = stream(patient.seed, "crowded")
    first = LOCATION_CLASSES[rng.integers(len(LOCATION_CLASSES))]
    lesions: list[PlannedLesion] = []
    for site in (first, *(name for name in LOCATION_CLASSES if name != first)):
        kinds = ("primary", "satellite") if site == first else ("metastasis", "metastasis")
        for number in range(rng.integers(LESIONS_OF_A_SITE[0], LESIONS_OF_A_SITE[1] + 1)):
            lesions.append(PlannedLesion(site, kinds[number > 0], _diameter(rng)))
    for station in sorted(set(NODE_STATION.values())):
        for _ in range(rng.integers(NODES_OF_A_STATION[0], NODES_OF_A_STATION[1] + 1)):
            diameter_mm = round(float(rng.uniform(*NODE_DIAMETER_MM)), 1)
            lesions.append(PlannedLesion(station, "node", diameter_mm))
    return _with_lesions(patient, lesions)


def draw_twins(seed: int) -> tuple[Patient, Patient]:
    """The crowded patient of this seed as two: one body, the lesions of each site dealt out in turn.

    Phantoms of one seed and size drawn of them differ in their lesions alone. Granulomas belong to the body:
    both have them.

    Args:
        seed: a whole number from 0.

    Raises:
        ValueError: the seed is negative or not a whole number.
    """
    patient = draw_crowded_patient(seed)
    primary = next(lesion for lesion in patient.lesions if lesion.kind == "primary")
    first_has = bool(stream(patient.seed, "twins").random() < 0.5)
    shares: dict[bool, list[PlannedLesion]] = {True: [], False: []}
    for lesion in sorted(patient.lesions, key=lambda one: (one.kind == "node", one.site, one.diameter_mm)):
        if lesion.kind in ("primary", "satellite"):  # each twin has one primary
            others = any(one.site == primary.site for one in shares[first_has])
            lesion = replace(lesion, kind="satellite" if others else "primary")
        shares[first_has].append(lesion)
        first_has = not first_has
    body = draw_patient(seed)
    if not body.granuloma_diameters_mm:  # its nodule, if any, was a tumor that neither twin has
        body = replace(body, diseases=tuple(name for name in body.diseases if name != "nodule"))
    return _with_lesions(body, shares[True]), _with_lesions(body, shares[False])


def _with_lesions(patient: Patient, lesions: Sequence[PlannedLesion]) -> Patient:
    """The patient with other lesions, which may be nodules."""
    nodules = any(lesion.site == "lung" and lesion.diameter_mm <= NODULE_MAX_MM for lesion in lesions)
    diseases = {*patient.diseases, *(["nodule"] if nodules else [])}
    return replace(
        patient,
        lesions=tuple(lesions),
        diseases=tuple(name for name in DISEASE_CLASSES if name in diseases),
    )


def _diameter(rng: np.random.Generator) -> float:
    low, high = LARGE_MM if rng.random() < LARGE_SHARE else SMALL_MM
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 1)
