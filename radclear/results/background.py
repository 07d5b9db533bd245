"""The background of the results page: the grid, findings about the input, and provenance."""

from __future__ import annotations

from html import escape

from radclear.results.wording import format_mm, sentence, task_title

_HASHES = {
    "weights_sha256": "Head weights",
    "backbone_weights_sha256": "Backbone weights",
    "config_sha256": "Configuration",
}


def subtitle_text(result: dict) -> str:
    """Size, spacing and extent of the study in one line."""
    geometry = result["geometry"]
    spacing, (low, high) = geometry["spacing_mm"], geometry["z_range_mm"]
    return (
        f"{geometry['n_slices']} axial slices of {geometry['n_columns']} × {geometry['n_rows']} pixels · "
        f"{spacing['x']:.2f} × {spacing['y']:.2f} × {spacing['z']:.2f} mm · "
        f"z {format_mm(low)} to {format_mm(high)} mm"
    )


def footer_text(result: dict) -> str:
    """Software, bundles and time in one line, so that a print without the provenance table names them too."""
    made = result["provenance"]
    models = sorted(
        {
            f"{m['bundle']} {m['bundle_version']} on {m['backbone_bundle']} {m['backbone_version']}"
            for m in (task["model"] for task in result["tasks"])
        }
    )
    return f"radclear {made['radclear_version']} · {'; '.join(models)} · made {_time(made['created_utc'])}"


def findings_table(result: dict) -> str:
    """What was noticed about the input, as HTML."""
    if not result["findings"]:
        return "<p>Nothing was noticed about the input.</p>"
    rows = []
    for finding in result["findings"]:
        numbers = [str(index + 1) for index in finding["slices"]]
        shown = ", ".join(numbers[:12]) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
        rows.append(
            f'<tr><th scope="row">{escape(finding["code"])}</th><td>{escape(finding["severity"])}</td>'
            f"<td>{escape(sentence(finding['message']))}</td><td>{shown or '–'}</td></tr>"
        )
    return (
        '<div class="scroll"><table><caption class="hidden">Findings about the input</caption><thead><tr>'
        '<th scope="col">Finding</th><th scope="col">Severity</th><th scope="col">What</th>'
        f'<th scope="col">Slices</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def provenance_table(result: dict) -> str:
    """Rows of the provenance table, as HTML."""
    made, study = result["provenance"], result["study"]
    rows = [
        ("Software", f"radclear {made['radclear_version']}, result schema {result['schema_version']}"),
        ("Made", _time(made["created_utc"])),
        ("Device", made["device"] or "not recorded"),
        ("Time", ", ".join(f"{name} {value:.2f} s" for name, value in result["seconds"].items())),
        ("Study key", study["study_key"]),
        ("Source", f"{study['source_format']}; candidate series: {study['n_candidate_series']}"),
        ("Series choice", study["series_choice"]),
        ("Pixels and geometry, sha256", study["series_hash"]),
        ("Series UID, sha256", study["series_uid_sha256"] or "none"),
    ]
    for name, value in study.get("identifiers", {}).items():
        rows.append((name.replace("_", " ").capitalize().replace(" uid", " UID"), value or "none"))
    for task in result["tasks"]:
        model, title = task["model"], task_title(task["task"])
        rows.append(
            (
                f"{title}: model",
                f"{model['bundle']} {model['bundle_version']} on {model['backbone_bundle']} "
                f"{model['backbone_version']}, {model['precision']}"
                f"{', demonstration weights' if model['demonstration'] else ''}",
            )
        )
        rows += [(f"{title}: {label.lower()}, sha256", model[field]) for field, label in _HASHES.items()]
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows
    )


def _time(utc: str) -> str:
    return utc.replace("T", " ").replace("Z", " UTC")
