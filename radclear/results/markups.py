"""Key slices as a markups document of 3D Slicer: one locked list of points, which viewers load as it is.

The format is Slicer's Markups JSON (schema 1.0.3); coordinates are LPS millimetres.
"""

from __future__ import annotations

import numpy as np

from radclear.results.answer import ResultError
from radclear.results.wording import format_score, score_digits, task_title

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_COLOR = [1.0, 0.78, 0.2]
# The axes of a point as Slicer writes them (its own are RAS), in LPS.
_IDENTITY = [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0]


def task_of(result: dict, task: str) -> dict:
    """The entry of a task in a result document.

    Raises:
        ResultError: the document has no such task.
    """
    for entry in result["tasks"]:
        if entry["task"] == task:
            return entry
    names = ", ".join(entry["task"] for entry in result["tasks"])
    raise ResultError(f"the result has no task {task!r}; it has {names}")


def answer_name(entry: dict) -> str:
    """The answer in a few words for a list in a viewer: task, most probable class, its probability.

    Args:
        entry: of `result["tasks"]`.
    """
    top = _top(entry)
    score = format_score(top["probability"], score_digits(entry))
    demonstration = " (demonstration weights)" if entry["model"]["demonstration"] else ""
    return f"{task_title(entry['task'])}: {top['label']} {score}{demonstration}"


def key_slice_markups(result: dict, task: str) -> dict:
    """A markups document with one point in the middle of each key slice.

    The list's name carries class and probability, a point's label `#rank Sslice class probability att
    attention`; slices count from 1 at the foot end, as everywhere in radclear. Points lie on the even grid of
    `geometry.affine_lps`, on which viewers show the volume.

    Args:
        result: a result document.
        task: which of its tasks.

    Raises:
        ResultError: the document has no such task.
    """
    entry, geometry = task_of(result, task), result["geometry"]
    top, digits = _top(entry), score_digits(entry)
    affine = np.asarray(geometry["affine_lps"])
    middle_x, middle_y = (geometry["n_columns"] - 1) / 2, (geometry["n_rows"] - 1) / 2
    points = []
    for key in entry["key_slices"]:
        position = affine @ [middle_x, middle_y, key["index"], 1.0]
        points.append(
            {
                "id": str(key["rank"]),
                "label": f"#{key['rank']} S{key['number']} {top['label']} "
                f"{format_score(top['probability'], digits)} att {format_score(key['attention'])}",
                "description": f"slice {key['number']} of {geometry['n_slices']}, z {key['z_mm']:.1f} mm",
                "associatedNodeID": "",
                "position": [round(float(value), 4) for value in position[:3]],
                "orientation": _IDENTITY,
                "selected": True,
                "locked": True,
                "visibility": True,
                "positionStatus": "defined",
            }
        )
    return {
        "@schema": MARKUPS_SCHEMA,
        "markups": [
            {
                "type": "Fiducial",
                "name": answer_name(entry),
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "locked": True,
                "fixedNumberOfControlPoints": True,
                "labelFormat": "%N-%d",
                "lastUsedControlPointNumber": len(points),
                "controlPoints": points,
                "measurements": [],
                "display": {
                    "visibility": True,
                    "opacity": 1.0,
                    "color": _COLOR,
                    "selectedColor": _COLOR,
                    "propertiesLabelVisibility": True,
                    "pointLabelsVisibility": True,
                    "textScale": 3.0,
                    "glyphType": "Sphere3D",
                    "glyphScale": 2.0,
                    "sliceProjection": False,
                },
            }
        ],
    }


def _top(entry: dict) -> dict:
    return next(c for c in entry["classes"] if c["name"] == entry["top_class"])
