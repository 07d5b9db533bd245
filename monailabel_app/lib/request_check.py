"""What a client may ask for. Everything else is refused by name: nothing a client sends is taken on trust."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from radclear.errors import RadclearError

#: What an inference request may hold beside model and image, and what a value must look like.
#: The stock clients send the first five, some or all, with every request.
INFER_PARAMS: dict[str, str] = {
    "result_extension": r"\.(nrrd|json)",
    "result_dtype": r"u?int(8|16)",
    "client_id": r"[\w.@ +-]{1,64}",
    "result_compress": r"True|False",
    "restore_label_idx": r"True|False",
    "series": r"[0-9.]{1,64}",
}
#: Where it says so: names in its address and in its form, and what its body may be.
INFER_QUERY = ("image", "session_id", "output")
INFER_FORM = ("params", "file", "label")
FORMS = ("", "multipart/form-data", "application/x-www-form-urlencoded")
#: The stock server's own defaults for batch inference are accepted; `device` and the like are the server's.
BATCH_PARAMS: dict[str, str] = {
    "max_batch_size": r"\d{1,6}",
    "client_id": r"[\w.@ +-]{1,64}",
    "device": r"cpu|cuda(:\d{1,2})?",
    "multi_gpu": r"True|False",
    "gpus": r"all",
    "logging": r"DEBUG|INFO|WARNING|ERROR",
    "save_label": r"True",
    "label_tag": r"original",
    "max_workers": r"\d{1,3}",
}
STRATEGY_PARAMS: dict[str, str] = {"client_id": r"[\w.@ +-]{1,64}"}
BATCH_IMAGES = ("all", "labeled", "unlabeled")
LONGEST_IMAGE_ID = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class RequestError(RadclearError):
    """A request is refused; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def checked_params(given: str | Mapping[str, Any] | None, allowed: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a request, where all of them are allowed and look as they should; without nulls.

    Args:
        given: JSON text or a mapping.
        allowed: name → regular expression for the value as text.

    Raises:
        RequestError: no JSON object, an unknown name, or another value; values are not repeated.
    """
    params = _as_mapping(given)
    unknown = sorted(set(params) - set(allowed))
    if unknown:
        names = ", ".join(repr(str(name)[:32]) for name in unknown[:5])
        raise RequestError(f"unknown parameters {names}; expected some of {', '.join(allowed)}")
    params = {name: value for name, value in params.items() if value is not None}
    for name, value in params.items():
        simple = isinstance(value, str | int | bool)
        if not simple or not re.fullmatch(allowed[name], str(value)):
            raise RequestError(f"{name} has another value than it may have; expected {allowed[name]}")
    return params


def _as_mapping(given: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise RequestError("params is not valid JSON; expected an object") from None
    if not isinstance(given, Mapping):
        raise RequestError(f"params is a {type(given).__name__}; expected a JSON object")
    return dict(given)


def check_places(*, query: Iterable[str], form: Iterable[str], content_type: str) -> None:
    """Refuse a question that says something where nobody looks, such as the series that it is about.

    Args:
        query: names in the address.
        form: names of the form's fields.
        content_type: of the body, empty where there is none.

    Raises:
        RequestError: another name, or a body that is no form.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in FORMS:
        raise RequestError(
            f"the body is no form; send params as a field of one of {', '.join(FORMS[1:])}", status=415
        )
    for place, names, known in (("address", query, INFER_QUERY), ("form", form, INFER_FORM)):
        if unknown := sorted(set(names) - set(known)):
            shown = ", ".join(repr(name[:32]) for name in unknown[:5])
            raise RequestError(
                f"the {place} has {shown}; expected some of {', '.join(known)}, all else in params"
            )


def checked_model(model: str, known: Mapping[str, Any]) -> str:
    """The name of a model, a question or a strategy that is served.

    Raises:
        RequestError: 404; the names that are served are listed.
    """
    if model not in known:
        raise RequestError(f"nothing has this name here; expected one of {', '.join(known)}", status=404)
    return model


def checked_image(image: str) -> str:
    """Text that can be an image's id or name; whether there is such a study is for the store to say.

    Raises:
        RequestError: empty, long, or with control characters.
    """
    if not isinstance(image, str) or not 0 < len(image) <= LONGEST_IMAGE_ID or _CONTROL.search(image):
        raise RequestError(
            f"image has to be the id of a study, 1 to {LONGEST_IMAGE_ID} characters; paths are not taken"
        )
    return image
