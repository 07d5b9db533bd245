"""Asking for names in radclear.ct must cost nothing heavy."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_package_loads_neither_torch_nor_itk():
    code = (
        "import sys, radclear.ct, radclear.ct.study; assert 'numpy' in sys.modules; from radclear.ct import "
        "ABDOMEN, "
        "CTInputError, find_studies, read_study; heavy = {'torch', 'itk', 'imagecodecs', 'monai', 'scipy'} "
        "& set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_the_public_ones():
    import radclear.ct

    for name in radclear.ct.__all__:
        assert getattr(radclear.ct, name) is not None
    assert not hasattr(radclear.ct, "nonsense")
