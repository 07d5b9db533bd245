"""The documented staging rules, as tables."""

import pytest

from radclear.phantom.staging import STAGE_TABLE_M0, PlannedLesion, stage_of, tnm


def primary(mm, site="liver"):
    return PlannedLesion(site, "primary", mm)


NODE = PlannedLesion("abdomen", "node", 18.0)
SATELLITE = PlannedLesion("liver", "satellite", 14.0)
METASTASIS = PlannedLesion("bone", "metastasis", 20.0)


@pytest.mark.parametrize(
    ("lesions", "expected", "stage"),
    [
        ((), ("", "", ""), ""),
        ((primary(8),), ("T1", "N0", "M0"), "I"),
        ((primary(30),), ("T1", "N0", "M0"), "I"),
        ((primary(30.1),), ("T2", "N0", "M0"), "II"),
        ((primary(50),), ("T2", "N0", "M0"), "II"),
        ((primary(50.1),), ("T3", "N0", "M0"), "III"),
        ((primary(20), NODE), ("T1", "N1", "M0"), "II"),
        ((primary(40), NODE, NODE), ("T2", "N1", "M0"), "II"),
        ((primary(20), NODE, NODE, NODE), ("T1", "N2", "M0"), "III"),
        ((primary(20), SATELLITE), ("T4", "N0", "M0"), "III"),
        ((primary(20), METASTASIS), ("T1", "N0", "M1"), "IV"),
        ((primary(60), SATELLITE, NODE, METASTASIS), ("T4", "N1", "M1"), "IV"),
    ],
)
def test_rules(lesions, expected, stage):
    assert tnm(lesions) == expected
    assert stage_of(*expected) == stage


def test_a_stage_never_falls_when_t_or_n_rises():
    order = ["I", "II", "III"]
    for (t, n), stage in STAGE_TABLE_M0.items():
        for (t2, n2), stage2 in STAGE_TABLE_M0.items():
            if t2 >= t and n2 >= n:
                assert order.index(stage2) >= order.index(stage)


@pytest.mark.parametrize(
    ("lesions", "message"),
    [
        ((METASTASIS,), "0 primary"),
        ((primary(20), primary(30)), "2 primary"),
        ((primary(20), PlannedLesion("lung", "satellite", 12)), "satellite"),
        ((primary(20), PlannedLesion("liver", "metastasis", 12)), "metastasis"),
    ],
)
def test_impossible_patients_are_refused(lesions, message):
    with pytest.raises(ValueError, match=message):
        tnm(lesions)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="brain"):
        PlannedLesion("brain", "primary", 10)
    with pytest.raises(ValueError, match="benign"):
        PlannedLesion("liver", "benign", 10)
    with pytest.raises(ValueError, match="T5"):
        stage_of("T5", "N0", "M0")
