"""A verdict goes with the answer that its reader saw, though others were given about other images since."""

from __future__ import annotations

import json

import pytest
from app_server import launch, needs_monailabel, until, wait_until_up, write_long_study

from radclear.ct import study_key

pytestmark = needs_monailabel
TASK = "staging"
NAME = "case.nii"
KEY = study_key(NAME)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server that answered about a study twice: its file was changed between."""
    folder = tmp_path_factory.mktemp("series")
    (folder / "studies").mkdir()
    write_long_study(folder / "studies" / NAME, n_slices=8, seed=1)
    server = wait_until_up(launch(folder, folder / "studies", "tasks", TASK, "rescan", "1"))
    server.answers = [answer(server)]
    write_long_study(folder / NAME, n_slices=8, seed=2).replace(folder / "studies" / NAME)
    # it sees that the file was changed
    until(lambda: series_of(answer(server)) != series_of(server.answers[0]), every_s=0.5)
    server.answers.append(answer(server))
    yield server
    server.stop()


def answer(server):
    return server.infer(TASK, KEY).json()["result"]


def series_of(answer):
    return answer["study"]["series_hash"]


def give(server, **said):
    model = server.answers[0]["tasks"][0]["model"]
    body = {"image": KEY, "task": TASK, "verdict": "agree", "reader": "Ada"}
    body |= {"weights_sha256": model["weights_sha256"]}
    body |= {"backbone_sha256": model["backbone_weights_sha256"], **said}
    return server.request("POST", "/radclear/verdicts", json=body)


def verdicts(server):
    return server.request("GET", f"/radclear/verdicts?image={KEY}").json()["verdicts"]


def probabilities(answer):
    (task,) = answer["tasks"]
    return {row["name"]: row["probability"] for row in task["classes"]}


def test_the_answer_that_was_seen_is_the_one_agreed_with(served):
    for seen in served.answers:
        stored = give(served, series_hash=series_of(seen))
        assert stored.status_code == 201 and stored.json()["series_hash"] == series_of(seen)
        assert stored.json()["answer"] == pytest.approx(probabilities(seen), abs=1e-6)


def test_who_does_not_say_which_of_two_answers_was_seen_is_asked(served):
    before = verdicts(served)
    for verdict in ({}, {"verdict": "disagree"}, {"verdict": "correct", "classes": ["II"]}):
        refused = give(served, **verdict)
        assert refused.status_code == 409 and "knows 2 answers" in refused.json()["detail"]
    assert verdicts(served) == before


@pytest.mark.parametrize("verdict", ["agree", "disagree"])
def test_a_verdict_on_images_that_were_never_answered_about_is_not_stored(served, verdict):
    before = verdicts(served)
    refused = give(served, series_hash="0" * 64, verdict=verdict)
    assert refused.status_code == 409 and "nothing was stored. Ask again" in json.dumps(refused.json())
    assert verdicts(served) == before


SAID = {"image": "1.2", "task": TASK, "verdict": "agree", "classes": None, "comment": "", "reader": "Ada"}
SAID |= {"weights_sha256": "a" * 64, "backbone_sha256": "b" * 64}


@pytest.mark.parametrize(
    ("known", "series_hash", "found"),
    [
        ([], None, "has 2 CT series"),
        ([("study-1", "x")], None, ("study-1", 0)),
        ([("study-1", "x"), ("study-1", "x")], None, ("study-1", 1)),
        ([("study-1", "x"), ("study-2", "y")], None, "knows 2 answers"),
        ([("study-1", "x"), ("study-2", "y")], "y", ("study-2", 1)),
        ([("study-1", "x"), ("study-2", "x")], "x", "knows 2 answers"),
        ([("study-1", "x")], "y", "no answer, or none any more"),
        ([("study-3", "x")], "x", "no answer, or none any more"),
    ],
    ids=["none", "one", "one twice", "two", "two, one named", "the same images twice", "others", "elsewhere"],
)
def test_a_verdict_on_a_study_of_two_series_is_about_one_answer_or_none(known, series_hash, found):
    from lib.request_check import RequestError
    from lib.verdict_answer import judged_answer
    from lib.verdict_check import Said

    records = [{"study": key, "series_hash": name, "n": n} for n, (key, name) in enumerate(known)]
    said = Said(**SAID, series_hash=series_hash)
    if isinstance(found, str):
        with pytest.raises(RequestError, match=found) as refusal:
            judged_answer(said, ("study-1", "study-2"), records)
        assert refusal.value.status == 409 and "nothing was stored" in str(refusal.value)
    else:
        key, record = judged_answer(said, ("study-1", "study-2"), records)
        assert (key, record["n"]) == found
