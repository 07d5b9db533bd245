"""Hounsfield units of tissues in one contrast-enhanced scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissues:
    """Mean Hounsfield units, drawn per patient.

    Every phantom is scanned with contrast medium, late arterial to portal venous. Bone falls with age;
    parenchyma and blood vary with the phase and the dose of contrast medium.
    """

    fat: float
    visceral_fat: float
    muscle: float
    skin: float
    lung: float
    blood: float
    venous_blood: float
    myocardium: float
    liver: float
    spleen: float
    kidney: float
    pancreas: float
    bowel_wall: float
    bowel_content: float
    water: float
    urine: float
    cancellous: float
    cortical: float
    disc: float
    cartilage: float
    gas: float


def draw_tissues(rng: np.random.Generator, *, age_years: int) -> Tissues:
    """Draw the Hounsfield units of one patient's scan."""

    def around(mean: float, spread: float) -> float:
        return float(mean + spread * rng.uniform(-1, 1))

    phase = float(rng.uniform(0, 1))  # 0 late arterial, 1 portal venous
    return Tissues(
        fat=around(-105, 6),
        visceral_fat=around(-98, 7),
        muscle=around(58, 6),
        skin=around(15, 15),
        lung=around(-860, 25),
        blood=around(215 - 60 * phase, 12),
        venous_blood=around(130 + 25 * phase, 10),
        myocardium=around(105, 8),
        liver=around(95 + 20 * phase, 8),
        spleen=around(122, 8),
        kidney=around(185, 15),
        pancreas=around(92, 8),
        bowel_wall=around(85, 10),
        bowel_content=around(22, 12),
        water=around(8, 5),
        urine=around(5, 4),
        cancellous=around(250 - 1.6 * age_years, 25) + 30,
        cortical=around(780, 90),
        disc=around(85, 10),
        cartilage=around(115, 20),
        gas=around(-960, 20),
    )
