"""Enhanced multi-frame CT: one record per frame from the functional groups (DICOM PS3.3 C.7.6.16)."""

from __future__ import annotations

from radclear.ct.errors import CTInputError
from radclear.ct.header import build_header
from radclear.ct.parse import PixelLocation
from radclear.ct.records import SliceHeader
from radclear.ct.tags import Elements, Tags, bad, label

MOST_FRAMES = 100_000
#: The macros that carry attributes which single-frame CT has at the top level.
_MACROS = (
    "FrameContentSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "CTImageFrameTypeSequence",
)
_NOT_SLICES = ("LOCALIZER", "SCOUT")


def frame_headers(data_set: Elements, pixels: PixelLocation, index: int) -> list[SliceHeader]:
    """Split an enhanced CT file into its frames.

    Args:
        data_set: the file's attributes.
        pixels: where the pixels of all frames are.
        index: position of the file in the sorted listing.

    Returns:
        One header per frame, localizer frames left out.

    Raises:
        CTInputError: the functional groups are missing or do not match the number of frames.
    """
    top = Tags(data_set)
    n_frames = top.integer("NumberOfFrames")
    if n_frames is None or not 1 <= n_frames <= MOST_FRAMES:
        raise bad("NumberOfFrames", f"1 to {MOST_FRAMES}")
    per_frame = top.items("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        keyword = label("PerFrameFunctionalGroupsSequence")
        raise CTInputError("missing_tag", f"{keyword} is missing: the frames have no positions")
    if len(per_frame) != n_frames:
        raise bad("NumberOfFrames", f"{len(per_frame)}, the number of per-frame functional groups")
    shared = [macro for item in top.items("SharedFunctionalGroupsSequence")[:1] for macro in _macros(item)]
    headers = []
    for frame, item in enumerate(per_frame):
        tags = Tags(*_macros(item), *shared, data_set)
        header = build_header(
            tags,
            pixels,
            index=index,
            frame=frame,
            n_frames=n_frames,
            instance=tags.integer("InStackPositionNumber") or frame + 1,
        )
        if not any(word in value for value in header.image_type for word in _NOT_SLICES):
            headers.append(header)
    return headers


def _macros(item: Elements) -> list[Elements]:
    tags = Tags(item)
    return [macro for keyword in _MACROS for macro in tags.items(keyword)[:1]]
