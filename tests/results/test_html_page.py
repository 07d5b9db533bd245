from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from radclear.ct.study import Finding
from radclear.results import ResultError, render_html
from radclear.results.reading import class_rows
from radclear.results.wording import format_mm, format_score, score_digits, verdict

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(result, study) -> Page:
    return Page(render_html(result, study=study))


def test_the_page_is_one_file_without_scripts_or_links_to_elsewhere(page):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/png;base64,", "#")), address
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page.text and "@import" not in page.text
    policy = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_links_inside_the_page_lead_somewhere_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in page.all("a"):
        assert attributes["href"].removeprefix("#") in ids
    for _, attributes in page.tags:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_the_page_can_be_read_by_a_screen_reader(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert page.all("html")[0]["lang"] == "en"
    drawings = [attributes for attributes in page.all("svg") if attributes.get("aria-hidden") != "true"]
    assert len(drawings) == 2 and all(attributes["role"] == "img" for attributes in drawings)


def test_the_page_says_what_the_result_says(page, result):
    for words in (
        "Where are tumor lesions?",
        "Which tumor stage fits this study?",
        "Lung (0.93)",
        "Most likely stage III (0.61)",
        "slice 17 of 24, z 20.0 mm, attention",
        "Demonstration weights",
        "One slice is missing above slice 12.",
        "scores are not calibrated",
        "For research use only, not for diagnosis",
        "≥ 0.40",
        "< 0.50",
        "Soft tissue",
        "a1" * 32,
        result["study"]["series_hash"],
    ):
        assert words.lower() in page.text.lower(), words
    assert len(page.all("img")) == 2 * (3 + 1)  # both windows of each key slice
    assert "Pixels below" not in page.text


def test_classes_are_ranked_but_stages_keep_their_order(page):
    rows = re.findall(r"(Lung|Mediastinum|Bone|Stage I+V?|Pelvis)(?=[<>0-9]+\.\d\d)", page.text)
    assert rows == ["Lung", "Mediastinum", "Bone", "Pelvis", "Stage I", "Stage II", "Stage III", "Stage IV"]


def test_markup_in_any_text_stays_text(make):
    evil = '<script>alert("x")</script><img src=http://evil.example/x onerror=alert(1)>\'"&$page'
    study = make.study()
    study = replace(
        study,
        findings=(Finding("gap<b>", "warning", evil, (1,)), Finding("x", "info", evil)),
        series=replace(study.series, reason=evil, series_uid=evil, source_format=evil),
        sop_instance_uids=(),
    )
    answer = make.location(classes=("bone", evil), probabilities=(0.2, 0.9), operating_points=None)
    page = Page(render_html(make.result(study, answer, identifiers=True, device=evil), study=study))
    assert not page.all("script") and not page.all("b")
    assert all(attributes["src"].startswith("data:image/png") for attributes in page.all("img"))
    assert page.text.count(evil) >= 5
    assert f"Highest probability: {evil[0].upper()}{evil[1:].replace('_', ' ')} (0.90)" in page.text


def test_without_pixels_there_are_no_pictures(result):
    page = Page(render_html(result))
    assert not page.all("img") and not page.all("image")
    assert "No pictures" in page.text


def test_pixels_of_another_study_are_refused(result, make):
    other = make.study(spacing_mm=(0.7, 0.7, 5.0))
    with pytest.raises(ResultError, match="expected the study that the result was made from"):
        render_html(result, study=other)


def test_an_invalid_result_is_not_drawn(result):
    result["tasks"][0]["attention"][0] = 0.9
    with pytest.raises(ResultError, match="attention sums to"):
        render_html(result)


def test_no_banner_without_a_reason(make):
    study = replace(make.study(), findings=())
    page = Page(render_html(make.result(study, make.location(model=make.provenance(demonstration=False)))))
    assert not [a for a in page.all("div") if "banner" in a.get("class", "")]
    assert "Nothing was noticed about the input." in page.text


@pytest.mark.parametrize("n_slices", [1, 2, 300])
def test_short_and_long_studies_can_be_drawn(make, n_slices):
    study = make.study(shape=(n_slices, 32, 32))
    keys = tuple(range(min(n_slices, 9)))  # neighbours at the foot: their labels must not leave the drawing
    answer = make.location(attention=make.attention(0, n_slices), key_slices=keys)
    study = replace(study, findings=())
    page = Page(render_html(make.result(study, answer), study=study))
    labels = sorted(float(a["y"]) for a in page.all("text") if a.get("class") == "keylabel")
    assert len(labels) == len(keys)
    assert all(after - before > 16 for before, after in zip(labels, labels[1:], strict=False))
    height = float(page.all("svg")[-1]["viewbox"].split()[3])
    assert labels[0] > 0 and labels[-1] < height


def test_one_dominant_and_one_even_curve_can_be_drawn(make):
    study = make.study()
    single = make.location(attention=[0.0] * 23 + [1.0], key_slices=(23,))
    even = make.staging(attention=[1 / 24] * 24)
    Page(render_html(make.result(study, single, even), study=study))


def test_a_task_of_ones_own_gets_a_page_too(make):
    answer = make.location(
        task="my_task", classes=("a_b", "c"), probabilities=(0.7, 0.1), operating_points=(0.8, None)
    )
    page = Page(render_html(make.result(make.study(), answer)))
    assert "My task: which classes does this study show?" in page.text
    assert "No class above its operating point; highest probability: A b (0.70)" in page.text


@pytest.mark.parametrize(
    ("probability", "point", "printed"),
    [
        (0.234, 0.226, ("0.234", "≥ 0.226")),
        (0.226, 0.234, ("0.226", "< 0.234")),
        (0.2304, 0.2301, ("0.2304", "≥ 0.2301")),
        (0.25, 0.25, ("0.25", "≥ 0.25")),
        (0.996, 0.998, ("0.996", "< 0.998")),
        (0.004, 0.003, ("0.004", "≥ 0.003")),
        (0.3, 0.004, ("0.300", "≥ 0.004")),
        (0.004, 0.2, ("<0.01", "< 0.20")),
        (0.5, 0.0, ("0.50", "≥ 0.00")),
        (0.2300001, 0.2300002, ("0.230000", "< 0.230000")),  # more than a result document holds
    ],
)
def test_a_score_and_its_operating_point_are_told_apart(make, probability, point, printed):
    answer = make.location(
        classes=("lung", "bone"), probabilities=(probability, 0.1), operating_points=(point, None)
    )
    study = make.study()
    page = Page(render_html(make.result(study, answer), study=study))
    assert printed[0] + printed[1] in page.text
    digits = len(printed[1].split(".")[1])
    assert f"{0.1:.{digits}f}not set" in page.text, "all scores of a task have as many digits"


@pytest.mark.parametrize(("calibrated", "name"), [(True, "probability"), (False, "score")])
def test_heading_and_column_call_the_numbers_the_same(make, calibrated, name):
    above = {"operating_points": (0.99,) * 5, "classes": tuple("abcde"), "probabilities": (0.9,) + (0.1,) * 4}
    page = Page(render_html(make.result(make.study(), make.location(calibrated=calibrated, **above))))
    assert f"No class above its operating point; highest {name}: A (0.90)" in page.text
    assert f"Class{name.capitalize()}" in page.text.replace(" ", "")
    unset = make.location(calibrated=calibrated, **{**above, "operating_points": (None,) * 5})
    heading = verdict(make.result(make.study(), unset)["tasks"][0])
    assert heading == f"Highest {name}: A (0.90); no operating points set"


def test_two_digits_are_enough_for_most(make):
    task = make.result(make.study())["tasks"][0]
    assert score_digits(task) == 2


@pytest.mark.parametrize(
    ("operating_points", "expected"),
    [
        ((0.1, 0.1, 0.1, 0.1, 0.1), "A (0.90), B (0.80), C (0.70) and 2 more"),
        ((0.85, 0.1, 0.2, 0.3, 0.95), "A (0.90), B (0.80), C (0.70) and 1 more"),
        ((0.85, 0.95, 0.2, 0.3, 0.95), "A (0.90), C (0.70), D (0.60)"),
        ((0.95, 0.95, 0.95, 0.95, 0.5), "E (0.50)"),
        ((0.95, 0.95, 0.95, 0.95, 0.95), "No class above its operating point; highest probability: A (0.90)"),
    ],
)
def test_the_heading_names_the_first_positive_classes_of_the_table(make, operating_points, expected):
    answer = make.location(
        classes=tuple("abcde"), probabilities=(0.9, 0.8, 0.7, 0.6, 0.5), operating_points=operating_points
    )
    task = make.result(make.study(), answer)["tasks"][0]
    assert verdict(task) == expected
    rows = class_rows(task)
    assert [row.strong for row in rows] == sorted((row.strong for row in rows), reverse=True)
    named = [f"{row.label} ({row.text})" for row in rows if row.strong][:3]
    assert not named or expected.startswith(", ".join(named))


def test_scores_never_round_to_certainty():
    assert [format_score(v) for v in (0, 0.004, 0.005, 0.93, 0.996, 1)] == [
        "0.00",
        "<0.01",
        "0.01",
        "0.93",
        ">0.99",
        "1.00",
    ]
    assert [format_mm(v) for v in (-12.5, -0.01, 3)] == ["−12.5", "0.0", "3.0"]


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of WCAG 2.2 between two colours."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(result, theme):
    style = re.search(r"<style>(.*?)</style>", render_html(result), re.S)[1]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", light if theme == "light" else dark))
    for text in ("text", "muted", "accent"):
        for ground in ("page", "card"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for banner in ("demo", "input", "note"):
        assert _contrast(colours[f"{banner}-text"], colours[banner]) >= 4.5, banner
    for drawing in ("fill", "attention", "point"):
        assert _contrast(colours[drawing], colours["card"]) >= 3, drawing
