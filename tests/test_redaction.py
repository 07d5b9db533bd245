"""Whatever names a patient is withheld, and no other word is."""

from __future__ import annotations

import unicodedata

import pytest

from radclear.ct.errors import CODES
from radclear.privacy import _PLAIN_WORDS, hash_uid, path_names, redact


@pytest.mark.parametrize(
    "text",
    [
        "slope/intercept of 3 slices; spacing 1.25 mm instead of 5.0 mm",
        "Gap between z −120.0 and −110.5 mm (slices 12 to 13), 20 slices/s, 2 of 248 slices, tilt 1.5°.",
        "Transfer syntax JPEG Lossless; pip install 'imagecodecs>=2025.3.30'",
        "the series with the most slices",
    ],
)
def test_ordinary_sentences_stay_as_they_are(text):
    assert redact(text, private=("series", "1.2.3.4.5.6")) == text


@pytest.mark.parametrize("folder", ["sagittal", "Axial", "series"])
def test_a_folder_named_by_a_plain_word_spoils_no_sentence(folder):
    text = "found 12 sagittal slices; an axial series is needed"
    assert redact(text, private=(folder, f"/archive/{folder}")) == text


@pytest.mark.parametrize("uid", ["2.25.123456789012345678901234567890", "1.2.840.10008.5.1.4.1.1.2"])
def test_uids_of_both_roots_are_withheld(uid):
    assert uid not in redact(f"series {uid} cannot be read")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("slices.nii.gz", "12 slices; a study of the torso has at least 8"),
        ("chest.zip", "no false alarm on sound chest series"),
        ("gap.dcm", "gap of 9.00 mm between slices 3 and 4"),
        ("body.nrrd", "the slices cover 32 mm of the body"),
        ("a.nii", "a slice is missing above slice 12"),
        ("3.dcm", "3 slices missing, spacing 3 mm, slices 1 to 3 of 3"),
        ("in.nii.gz", "12 slices in 3 series"),
        ("MHA.mha", "expected DICOM files, or a NIfTI, NRRD or MHA file"),
    ],
)
def test_a_file_called_like_a_word_of_ours_spoils_no_sentence(file, text):
    assert redact(text, private=path_names(f"/archive/{file}")) == text


@pytest.mark.parametrize("word", sorted(_PLAIN_WORDS))
def test_every_description_of_an_error_survives_every_plain_word(word):
    for text in CODES.values():
        assert redact(text, private=path_names(f"/archive/{word}.nii.gz")) == text


@pytest.mark.parametrize(
    "name", ["will", "Mark", "MAY", "rose", "grant", "page", "case", "long", "young", "sample"]
)
def test_names_that_are_words_are_withheld_in_any_case(name):
    for text in ("{} is bad", "found {}, expected another", "the {}", "x_{}_1961", "({})"):
        for written in (name.lower(), name.upper(), name.title()):
            said = redact(text.format(written), private=path_names(f"/archive/{name}.nii.gz"))
            assert written not in said and "[withheld]" in said


@pytest.mark.parametrize(
    ("private", "text", "expected"),
    [
        (("DOE",), "DOE_JANE failed", "[withheld]_JANE failed"),
        (("DOE",), "DOES and ADOE are other words", "DOES and ADOE are other words"),
        (("doe",), "cannot open archive/DOE/x_1", "cannot open [withheld]"),
        (("series", "DOE"), "series/IM_7 of DOE", "[withheld] of [withheld]"),
        (("chest",), "cannot open old/chest/JANE: denied", "cannot open [withheld]: denied"),
        (("chest",), "chest\\JANE_1 cannot be read", "[withheld] cannot be read"),
        (
            ("chest.nii.gz", "chest"),
            "chest.nii.gz: 3 slices of the chest",
            "[withheld]: 3 slices of the chest",
        ),
        (("123",), "found 123 files, 123/456 is damaged", "found 123 files, [withheld] is damaged"),
        (("4711",), "4711 is damaged", "[withheld] is damaged"),
        (("王",), "王 is damaged", "[withheld] is damaged"),
        (("..", "/", ""), "a / b .. c", "a / b .. c"),
        (("DOE (old)",), "found DOE (OLD), and so on", "found [withheld], and so on"),
    ],
)
def test_private_words_are_withheld_whole_and_with_their_paths(private, text, expected):
    assert redact(text, private=private) == expected


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_accents_may_be_written_either_way(forms):
    folder, text = (unicodedata.normalize(form, "Müller-Lüdenscheid") for form in forms)
    assert redact(f"{text} is bad", private=[folder]) == "[withheld] is bad"


def test_a_uid_is_hashed():
    # printf 1.2.3 | sha256sum
    assert hash_uid("1.2.3") == "c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e"
    assert hash_uid("") is None
