"""Series of an archive: found by UID or id, fetched once, not lost when the archive goes away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from app_server import TRACES, held_audit, launch, needs_monailabel, wait_until_up, write_long_study
from fake_dicomweb import FakeArchive
from lib.audit import verify_audit
from lib.studies import UnknownStudyError
from lib.uploads import UploadLimits

from radclear.ct import read_study, study_key

pytestmark = needs_monailabel
LIMITS = UploadLimits(largest_bytes=2**20, all_bytes=2**20, memory_cap_bytes=2**28)


@pytest.fixture
def archive(small_studies, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = FakeArchive(small_studies / "DOE^JANE_0")
    yield served
    served.close()


def make_index(archive, folder, *, most_bytes=2**30):
    from lib.archive import connect
    from lib.dicomweb import DicomWebIndex

    return DicomWebIndex(
        connect(archive.url), folder / "series", folder / "uploads", most_bytes=most_bytes, limits=LIMITS
    )


def test_a_series_is_found_by_its_uid_and_fetched_once(archive, tmp_path, small_studies):
    index = make_index(archive, tmp_path)
    ((_, series),) = archive.files
    assert index.ids() == [study_key(series)] and archive.asked == ["/series"]
    for image in (series, study_key(series)):
        source = index.ready(index.find(image))
        assert read_study(source.path).series_hash == read_study(small_studies / "DOE^JANE_0").series_hash
    assert len(archive.asked) == 2
    assert not [path for path in tmp_path.rglob("*") if series in path.name]
    with pytest.raises(UnknownStudyError):
        index.find("1.2.3")


def test_an_archive_that_goes_away_and_comes_back(archive, tmp_path):
    from lib.archive import ArchiveError

    index = make_index(archive, tmp_path)
    (key,) = index.ids()
    archive.broken = True
    index.rescan()
    assert index.ids() == [key]  # what was known is still known
    with pytest.raises(ArchiveError, match="ask again"):
        index.ready(index.find(key))
    archive.broken, archive.cut = False, True
    with pytest.raises(ArchiveError, match="whole series"):
        index.ready(index.find(key))
    assert not list((tmp_path / "series").iterdir())  # half a series is no series
    archive.cut, archive.withheld = False, 1
    with pytest.raises(ArchiveError, match="sent 7 of the series' 8 images"):
        index.ready(index.find(key))
    assert not list((tmp_path / "series").iterdir())
    archive.withheld = 0
    assert read_study(index.ready(index.find(key)).path).hu.shape[0] == 8


def test_a_batch_beside_the_server_may_fetch_the_same_series(archive, tmp_path):
    """It has an index of its own over the same folder, made when the server has half of the series."""
    index = make_index(archive, tmp_path)
    source = index.find(index.ids()[0])
    images = index._client.iter_series

    def half_way(*uids):
        for number, image in enumerate(images(*uids)):
            yield image
            if number == 3:
                beside = make_index(archive, tmp_path)
                assert beside.ready(beside.find(source.key)) == source

    index._client.iter_series = half_way
    (tmp_path / "series" / "study-gone").symlink_to("nowhere")  # as one that goes while room is made
    assert read_study(index.ready(source).path).hu.shape[0] == 8
    (tmp_path / "series" / "study-gone").unlink()
    assert list((tmp_path / "series").iterdir()) == [source.path]
    (tmp_path / "series" / ".half").mkdir()
    make_index(archive, tmp_path).clean()
    assert list((tmp_path / "series").iterdir()) == [source.path]


def test_a_series_larger_than_the_cache_is_refused(archive, tmp_path):
    from lib.archive import ArchiveError

    index = make_index(archive, tmp_path, most_bytes=10_000)
    with pytest.raises(ArchiveError, match="volumes_mib"):
        index.ready(index.find(index.ids()[0]))
    assert not list((tmp_path / "series").iterdir())


def test_a_server_over_an_archive_that_is_killed_in_an_inference_has_lost_nothing(archive, tmp_path):
    """Nothing is fetched at its start; what was answered and uploaded is there after `kill -9`."""
    ((_, series),) = archive.files
    scans = {
        name: write_long_study(tmp_path / f"{name}.nii", n_slices=n).read_bytes()
        for name, n in (("kept", 8), ("long", 96))
    }
    server = wait_until_up(launch(tmp_path, archive.url, "tasks", "staging"))
    try:
        assert set(archive.asked) == {"/series"}
        assert not [file for file in (tmp_path / "app" / "bin").iterdir()]
        answer = server.infer("staging", series)
        assert answer.status_code == 200 and answer.json()["prediction"]
        assert server.request("GET", "/datastore/image", params={"image": series}).content[:4] == b"NRRD"
        for name, scan in scans.items():
            sent = server.request(
                "PUT", "/datastore/image", params={"image": name}, files={"file": ("x.nii", scan)}
            )
            assert sent.json() == {"image": study_key(name)}
        first = server.infer("staging", "kept").json()
        with held_audit(server), ThreadPoolExecutor(1) as pool:  # so that it is killed before the answer
            lost = pool.submit(server.infer, "staging", "long")
            time.sleep(0.7)
            server.kill()
            assert lost.exception() is not None
        lines = (server.data / "audit.jsonl").read_text().splitlines()
        archive.broken = True  # and the archive is gone when the server comes back
        server = wait_until_up(launch(tmp_path, archive.url, "tasks", "staging"))
        assert server.infer("staging", "kept").json()["prediction"] == first["prediction"]
        assert server.infer("staging", "long").status_code == 200
        assert server.infer("staging", series).status_code == 404
        archive.broken = False
        time.sleep(2.1)  # it looks again no sooner
        assert server.infer("staging", series).json()["prediction"] == answer.json()["prediction"]
        texts = (answer.text, server.app_log.read_text(), (server.data / "audit.jsonl").read_text())
        assert not [trace for trace in (*TRACES, series) for text in texts if trace in text]
    finally:
        server.stop()
    assert (server.data / "audit.jsonl").read_text().splitlines()[: len(lines)] == lines
    assert verify_audit(server.data / "audit.jsonl")[1] == []
    uploads = {path.name for path in (server.data / "uploads").iterdir()}
    assert uploads == {f"{study_key(name)}.nii" for name in scans}
