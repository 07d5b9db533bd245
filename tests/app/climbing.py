"""Files of the server that no client may get at, and the names by which a client might try."""

from __future__ import annotations

import pytest
from app_server import write_long_study

from radclear.ct import study_key

DICOM = study_key("DOE^JANE_0")
SECRET = "the secret of the server"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """Files of the server that no client may get at: text, and a study beside the served ones."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "secret.txt").write_text(SECRET)
    write_long_study(folder / "other.nii.gz", n_slices=8)
    return folder


def climbing(secrets) -> list[str]:
    up = "../" * 12
    files = [str(secrets / "secret.txt"), str(secrets / "other.nii.gz"), "/etc/passwd"]
    ways = []
    for file in files:
        ways += [file, up + file.lstrip("/"), f"file://{file}", f"{DICOM}/{up}{file.lstrip('/')}"]
    return [
        *ways,
        "..",
        ".",
        "/",
        "~",
        "..\\..\\secret.txt",
        "%2e%2e%2fetc%2fpasswd",
        f"{DICOM}\x00.nii",
        "*",
    ]
