"""The disease model: who has which lesions and lung diseases. Labels without pixels.

A stage is drawn first (about a sixth of the patients have no tumor), then T, N and M that lead to it, then
lesions that T, N and M demand. ``labels`` are computed back from the lesions by
:mod:`radclear.phantom.staging`, never copied from the draw.

- The primary's site is uniform over the eight location classes. Bone and soft tissue tumors do not spread to
  nodes.
- Sizes keep a distance of some millimetres from the T limits, so that the label can be seen and not only
  computed.
- Nodes of lung and mediastinal tumors are mediastinal, of liver, kidney and abdominal tumors retroperitoneal
  (site "abdomen"), of pelvic tumors pelvic. As in DeepLesion, an enlarged node is a lesion of its site.
- N1 is one or two nodes, N2 four to six, T4 two to four satellites.
- Metastases come in one to three further organs, most often liver, lung and bone.
- A lung disease is "nodule" where a lung tumor lesion of at most 30 mm is present or a benign calcified
  granuloma was drawn; a granuloma is no tumor and does not count as a lung location. The other diseases are
  independent of the tumor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radclear.phantom.labels import DISEASE_CLASSES, LOCATION_CLASSES, NODULE_MAX_MM, STAGE_CLASSES
from radclear.phantom.staging import STAGE_TABLE_M0, T_CLASSES, PlannedLesion, stage_of, tnm

NO_TUMOR_PROBABILITY = 0.17
NO_LUNG_DISEASE_PROBABILITY = 0.30  # of the patients whose tumor brings no nodule
N_DISEASES_PROBABILITY = (0.50, 0.36, 0.14)  # one, two or three lung diseases

#: Diameter drawn for each T, in millimetres; T4 is defined by satellites, its primary by this range.
T_DIAMETER_MM = {"T1": (18.0, 28.0), "T2": (34.0, 46.0), "T3": (55.0, 68.0), "T4": (30.0, 45.0)}
SATELLITE_DIAMETER_MM = (14.0, 24.0)
METASTASIS_DIAMETER_MM = (18.0, 36.0)
NODE_DIAMETER_MM = (18.0, 28.0)
GRANULOMA_DIAMETER_MM = (8.0, 14.0)

NODE_STATION = {
    "lung": "mediastinum",
    "mediastinum": "mediastinum",
    "liver": "abdomen",
    "kidney": "abdomen",
    "abdomen": "abdomen",
    "pelvis": "pelvis",
}
SATELLITE_SITES = ("bone", "liver", "lung")
METASTASIS_WEIGHT = {
    "bone": 0.20,
    "abdomen": 0.10,
    "mediastinum": 0.07,
    "liver": 0.20,
    "lung": 0.20,
    "kidney": 0.07,
    "soft_tissue": 0.09,
    "pelvis": 0.07,
}


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers for one purpose: the streams of one seed do not disturb each other."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *name.encode()])))


@dataclass(frozen=True)
class Patient:
    """What is known of a synthetic patient before a scan is drawn.

    Attributes:
        seed: that everything follows from.
        sex: "F" or "M".
        age_years: 35 to 88; bone density falls with it.
        scale: (x, y, z) size relative to the standard skeleton.
        fatness: 0 lean to 1 obese.
        lesions: tumor lesions, the primary first; empty without tumor.
        granuloma_diameters_mm: benign calcified lung nodules.
        diseases: lung diseases, in the order of DISEASE_CLASSES.
    """

    seed: int
    sex: str
    age_years: int
    scale: tuple[float, float, float]
    fatness: float
    lesions: tuple[PlannedLesion, ...]
    granuloma_diameters_mm: tuple[float, ...]
    diseases: tuple[str, ...]

    @property
    def labels(self) -> dict[str, object]:
        """``location_<class>`` and ``disease_<class>`` as 0 or 1, ``stage``, ``t``, ``n``, ``m`` as text."""
        sites = {lesion.site for lesion in self.lesions}
        t, n, m = tnm(self.lesions)
        return {
            **{f"location_{name}": int(name in sites) for name in LOCATION_CLASSES},
            **{f"disease_{name}": int(name in self.diseases) for name in DISEASE_CLASSES},
            "stage": stage_of(t, n, m),
            "t": t,
            "n": n,
            "m": m,
        }


def draw_patient(seed: int) -> Patient:
    """Draw a patient: body, tumor and lung disease. Takes well under a millisecond.

    Args:
        seed: a whole number from 0.

    Raises:
        ValueError: the seed is negative or not a whole number.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {seed!r}; expected a whole number from 0")
    seed = int(seed)
    rng = stream(seed, "body")
    sex = "F" if rng.random() < 0.45 else "M"
    stature = float(np.clip(rng.normal(0.965 if sex == "F" else 1.03, 0.035), 0.88, 1.12))
    build = float(np.clip(rng.normal(1.0, 0.04), 0.9, 1.1))
    scale = (stature * build, stature * float(rng.uniform(0.95, 1.06)) * build, stature)
    fatness = float(rng.beta(2.0, 2.6))
    age_years = int(rng.integers(35, 89))
    lesions = _draw_tumor(stream(seed, "tumor"))
    granulomas, diseases = _draw_lung_disease(stream(seed, "lung disease"), lesions)
    return Patient(seed, sex, age_years, scale, fatness, lesions, granulomas, diseases)


def _draw_tumor(rng: np.random.Generator) -> tuple[PlannedLesion, ...]:
    if rng.random() < NO_TUMOR_PROBABILITY:
        return ()
    stage = STAGE_CLASSES[rng.integers(4)]
    site = LOCATION_CLASSES[rng.integers(8)]
    options = [
        (t, n)
        for (t, n), m0_stage in STAGE_TABLE_M0.items()
        if stage in (m0_stage, "IV")
        and (n == "N0" or site in NODE_STATION)
        and (t != "T4" or site in SATELLITE_SITES)
    ]
    t, n = options[rng.integers(len(options))]
    lesions = [PlannedLesion(site, "primary", _diameter(rng, T_DIAMETER_MM[t]))]
    if t == T_CLASSES[3]:
        lesions += [
            PlannedLesion(site, "satellite", _diameter(rng, SATELLITE_DIAMETER_MM))
            for _ in range(rng.integers(2, 5))
        ]
    n_nodes = {"N0": 0, "N1": int(rng.integers(1, 3)), "N2": int(rng.integers(4, 7))}[n]
    lesions += [
        PlannedLesion(NODE_STATION[site], "node", _diameter(rng, NODE_DIAMETER_MM)) for _ in range(n_nodes)
    ]
    if stage == "IV":
        organs = [name for name in LOCATION_CLASSES if name != site]
        weights = np.array([METASTASIS_WEIGHT[name] for name in organs])
        n_organs = int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3]))
        for index in rng.choice(len(organs), size=n_organs, replace=False, p=weights / weights.sum()):
            for _ in range(rng.integers(1, 4)):
                lesions.append(
                    PlannedLesion(organs[index], "metastasis", _diameter(rng, METASTASIS_DIAMETER_MM))
                )
    return tuple(lesions)


def _draw_lung_disease(
    rng: np.random.Generator, lesions: tuple[PlannedLesion, ...]
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    tumor_nodule = any(lesion.site == "lung" and lesion.diameter_mm <= NODULE_MAX_MM for lesion in lesions)
    chosen: set[str] = set()
    if rng.random() >= NO_LUNG_DISEASE_PROBABILITY:
        n = int(rng.choice([1, 2, 3], p=N_DISEASES_PROBABILITY))
        chosen = {DISEASE_CLASSES[index] for index in rng.choice(len(DISEASE_CLASSES), size=n, replace=False)}
    granulomas: tuple[float, ...] = ()
    if "nodule" in chosen and not tumor_nodule:
        granulomas = tuple(_diameter(rng, GRANULOMA_DIAMETER_MM) for _ in range(rng.integers(2, 6)))
    if tumor_nodule:
        chosen.add("nodule")
    return granulomas, tuple(name for name in DISEASE_CLASSES if name in chosen)


def _diameter(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return round(float(rng.uniform(*limits)), 1)
