"""The one error that reading a study raises, with a code that programs can rely on."""

from __future__ import annotations

from radclear.errors import RadclearError

#: Every ``CTInputError.code`` and what it stands for. Codes are stable, messages are not.
CODES = {
    "path_not_found": "the path does not exist, or is neither a file nor a folder",
    "unsafe_archive": "a zip member has an unsafe name, is a link, is encrypted, or expands beyond the cap",
    "too_many_files": "more files than a study, or a folder of studies, can sensibly have",
    "too_large": "rows x columns x frames exceeds the memory cap",
    "ambiguous_layout": "the folder cannot be split into studies without guessing",
    "no_ct_found": "nothing in the path is a CT image",
    "not_ct": "the images are of another modality",
    "series_not_found": "the series asked for is not in the path",
    "missing_tag": "a DICOM attribute that is needed is absent",
    "bad_tag": "a DICOM attribute or header field holds something impossible",
    "monochrome1": "PhotometricInterpretation is MONOCHROME1",
    "not_grey": "SamplesPerPixel is not 1",
    "not_axial": "the slices are not axial and do not make a volume that could be turned axial",
    "misaligned": "slices of one series do not lie on one straight line",
    "unknown_orientation": "a volume file does not say how it lies in the patient",
    "unsupported_transfer_syntax": "no decoder exists for this pixel encoding",
    "missing_decoder": "the decoder for this pixel encoding is not installed",
    "pixel_data": "the pixels are truncated, corrupt, or of another size than the header says",
    "unreadable": "the file cannot be parsed",
    "not_hounsfield": "the values cannot be Hounsfield units",
    "refused_by_policy": "policy is 'strict' and there are warnings",
}


class CTInputError(RadclearError):
    """The input cannot be read as a CT study.

    Messages name tags, counts and numbers, never file names or values that could identify a patient.

    Attributes:
        code: one of :data:`CODES`.
        findings: what had been noticed, where the policy refused it.
    """

    def __init__(self, code: str, message: str, *, findings: tuple = ()) -> None:
        """
        Args:
            code: one of :data:`CODES`.
            message: what was found, what was expected, what to do next.
            findings: the findings that led to the refusal, if any.
        """
        if code not in CODES:
            raise ValueError(f"unknown CTInputError code {code!r}; known codes: {', '.join(CODES)}")
        self.code = code
        self.findings = tuple(findings)
        super().__init__(message)

    def __reduce__(self):
        return _rebuild, (self.code, str(self), self.findings)


def _rebuild(code: str, message: str, findings: tuple) -> CTInputError:
    return CTInputError(code, message, findings=findings)
