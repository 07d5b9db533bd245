"""Only what is on the list gets through, and refusals repeat nothing that was sent."""

from __future__ import annotations

import pytest
from lib.request_check import (
    BATCH_PARAMS,
    INFER_PARAMS,
    RequestError,
    check_places,
    checked_image,
    checked_model,
    checked_params,
)

STOCK_SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
STOCK_BATCH = {
    "device": "cuda", "multi_gpu": True, "gpus": "all", "logging": "WARNING", "save_label": True,
    "label_tag": "original", "max_workers": 1, "max_batch_size": 0,
}  # fmt: skip


def test_what_stock_clients_send_is_taken():
    assert checked_params(STOCK_SLICER, INFER_PARAMS) == STOCK_SLICER
    assert checked_params(STOCK_BATCH, BATCH_PARAMS) == STOCK_BATCH
    for nothing in (None, "", "{}", {}):
        assert checked_params(nothing, INFER_PARAMS) == {}
    assert checked_params({**STOCK_SLICER, "client_id": None}, INFER_PARAMS).keys() == STOCK_SLICER.keys() - {
        "client_id"
    }
    assert checked_params('{"series": "1.2.840.1"}', INFER_PARAMS) == {"series": "1.2.840.1"}


@pytest.mark.parametrize(
    "given",
    [
        {"image": "/etc/passwd"},
        {"model_filename": "x.pt"},
        {"model": "other"},
        {"device": "cuda"},
        {"save_label": True},
        {"label_tag": "../x"},
        {"bundle_path": "/tmp"},
        {"result_extension": "/../x.nrrd"},
        {"result_extension": ".nrrd\n"},
        {"result_dtype": "object"},
        {"client_id": "x" * 65},
        {"client_id": ["user"]},
        {"client_id": "a/b"},
        {"series": "../1.2"},
        {"series": {"$gt": ""}},
    ],
)
def test_everything_else_is_refused(given):
    with pytest.raises(RequestError) as caught:
        checked_params(given, INFER_PARAMS)
    (value,) = given.values()
    assert caught.value.status == 400 and "expected" in str(caught.value)
    assert str(value) not in str(caught.value) or str(value) in INFER_PARAMS["client_id"]


@pytest.mark.parametrize("given", ["[1]", "7", "{", '"x"', "null", "[" * 100_000, b"{}", [1]])
def test_what_is_no_object_is_refused(given):
    with pytest.raises(RequestError, match="JSON"):
        checked_params(given, INFER_PARAMS)


@pytest.mark.parametrize(
    "given", [{"bundle_path": "/tmp"}, {"gpus": "0;ls"}, {"images": ["/etc"]}, {"model": "x"}]
)
def test_batches_take_no_paths_and_no_commands(given):
    with pytest.raises(RequestError):
        checked_params(given, BATCH_PARAMS)


@pytest.mark.parametrize("image", ["", "x" * 257, "a\0b", "a\nb", None, 7])
def test_images_are_short_plain_text(image):
    with pytest.raises(RequestError, match="paths are not taken"):
        checked_image(image)


def test_models_are_those_that_are_served():
    assert checked_model("staging", {"staging": 1}) == "staging"
    with pytest.raises(RequestError, match="expected one of staging") as caught:
        checked_model("../staging", {"staging": 1})
    assert caught.value.status == 404


def test_nothing_is_said_where_nobody_looks():
    check_places(
        query=("image", "session_id"), form=("params",), content_type="multipart/form-data; boundary=x"
    )
    check_places(query=("image", "output"), form=(), content_type="")
    with pytest.raises(RequestError, match="the address has 'series'; expected some of image"):
        check_places(query=("image", "series"), form=(), content_type="")
    with pytest.raises(RequestError, match="the form has 'series'; expected some of params"):
        check_places(query=(), form=("params", "series"), content_type="application/x-www-form-urlencoded")
    with pytest.raises(RequestError, match="no form; send params as a field") as caught:
        check_places(query=(), form=(), content_type="application/json")
    assert caught.value.status == 415
