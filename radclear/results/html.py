"""The results page: one self-contained HTML file that says the same as the JSON, for people."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template

from radclear.ct import ABDOMEN, LUNG, Window
from radclear.ct.study import Study
from radclear.results.answer import ResultError
from radclear.results.background import findings_table, footer_text, provenance_table, subtitle_text
from radclear.results.charts import attention_chart, bar
from radclear.results.reading import banners, class_rows, points_meaning
from radclear.results.thumbnails import Picture, overview_picture, slice_pictures, task_windows
from radclear.results.validation import validate_result
from radclear.results.wording import (
    ATTENTION_MEANING,
    format_mm,
    format_score,
    score_meaning,
    task_title,
    verdict,
)

_SCALE_BAR_MM = 50


def render_html(result: dict, *, study: Study | None = None) -> str:
    """Draw the page.

    Args:
        result: a document that passes :func:`radclear.results.validate_result`.
        study: the study it is about, for pictures; without it the page has none, and says so.

    Returns:
        The text of an HTML file without scripts and without references to anything outside itself.

    Raises:
        ResultError: the document is not valid, or the study is another one than the document's.
    """
    validate_result(result)
    if study is not None and study.series_hash != result["study"]["series_hash"]:
        raise ResultError(
            f"the study's pixels hash to {study.series_hash[:12]}…, the result is about "
            f"{result['study']['series_hash'][:12]}…; expected the study that the result was made from."
        )
    overview = None if study is None else overview_picture(study)
    pictures = None if study is None else _key_slice_pictures(result, study)
    tasks = [_task(task, result, pictures=pictures, overview=overview) for task in result["tasks"]]
    return Template(_template("page.html")).substitute(
        style=_template("style.css"),
        study_key=escape(result["study"]["study_key"]),
        subtitle=escape(subtitle_text(result)),
        intended_use=escape(result["intended_use"]),
        banners=_banners(result),
        glance="".join(_glance_row(task) for task in result["tasks"]),
        tasks="".join(tasks),
        findings=findings_table(result),
        provenance=provenance_table(result),
        footer=escape(footer_text(result)),
    )


def _template(name: str) -> str:
    return (resources.files("radclear.results") / "templates" / name).read_text(encoding="utf-8")


def _banners(result: dict) -> str:
    parts = []
    for banner in banners(result):
        shown = [escape(message) for message in banner.messages]
        text = f"<p>{shown[0]}</p>" if banner.kind == "demo" else _list(shown)
        role = "" if banner.kind == "note" else ' role="note"'
        parts.append(
            f'<div class="banner {banner.kind}"{role}><strong>{escape(banner.title)}</strong>{text}</div>'
        )
    return "".join(parts)


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _glance_row(task: dict) -> str:
    keys = ", ".join(str(key["number"]) for key in task["key_slices"])
    anchor = escape(f"task-{task['task']}")
    return (
        f'<tr><th scope="row"><a href="#{anchor}">{escape(task_title(task["task"]))}</a></th>'
        f'<td>{escape(verdict(task))}</td><td class="number">{keys}</td></tr>'
    )


def _key_slice_pictures(result: dict, study: Study) -> dict[tuple[int, Window], Picture]:
    """(slice index, window) → picture, each made once however many tasks share the slice."""
    indices = {key["index"] for task in result["tasks"] for key in task["key_slices"]}
    windows = (ABDOMEN, LUNG)
    return {
        (index, window): picture
        for index in indices
        for window, picture in zip(windows, slice_pictures(study, index, windows), strict=True)
    }


def _task(
    task: dict, result: dict, *, pictures: dict[tuple[int, Window], Picture] | None, overview: Picture | None
) -> str:
    anchor = escape(f"task-{task['task']}")
    chart = attention_chart(task, result["geometry"]["slice_z_mm"], overview=overview, chart_id=anchor)
    if pictures is None:
        shown = '<p class="muted">No pictures: the page was made without the study’s pixels.</p>'
    else:
        figures = "".join(_key_slice(task, key, result, pictures) for key in task["key_slices"])
        shown = f'<div class="keys">{figures}</div>'
    return Template(_template("task.html")).substitute(
        anchor=anchor,
        title=escape(task_title(task["task"])),
        question=escape(task["question"]),
        verdict=escape(verdict(task)),
        score_name="Probability" if task["calibrated"] else "Score",
        class_name="Stage" if task["task"] == "staging" else "Class",
        rows=_class_rows(task),
        meaning=escape(score_meaning(task) + points_meaning(task)),
        chart=chart,
        attention_meaning=escape(ATTENTION_MEANING),
        even=f"{1 / len(task['attention']):.3f}",
        pictures=shown,
    )


def _class_rows(task: dict) -> str:
    return "".join(
        f'<tr{" class=strong" if row.strong else ""}><th scope="row">{escape(row.label)}</th>'
        f'<td class="number">{escape(row.text)}</td>'
        f'<td class="barcell">{bar(row.probability, row.operating_point)}</td>'
        f'<td class="call">{escape(row.call)}</td></tr>'
        for row in class_rows(task)
    )


def _key_slice(task: dict, key: dict, result: dict, pictures: dict[tuple[int, Window], Picture]) -> str:
    place = f"slice {key['number']} of {result['geometry']['n_slices']}, z {format_mm(key['z_mm'])} mm"
    images = []
    for window in task_windows(task["task"]):
        picture = pictures[key["index"], window]
        name = f"{window.name} window"
        height, width = picture.grey.shape
        limits = f"{window.level_hu:g}/{window.width_hu:g}".replace("-", "−")
        bar_width = 100 * _SCALE_BAR_MM / picture.width_mm
        scale = f'<span class="scale" style="width:{bar_width:.1f}%">5 cm</span>' if bar_width < 60 else ""
        images.append(
            f'<div class="view"><span class="frame"><img src="{picture.data_uri}" width="{width}" '
            f'height="{height}" alt="Axial {escape(place)}, {escape(name)}, patient’s right at the left">'
            f"{scale}</span>"
            f'<span class="window">{escape(name)} {limits} HU</span></div>'
        )
    caption = f"{place[0].upper()}{place[1:]}, attention {format_score(key['attention'])}"
    return (
        f'<figure><div class="views">{"".join(images)}</div>'
        f"<figcaption><strong>#{key['rank']}</strong> {escape(caption)}</figcaption></figure>"
    )
