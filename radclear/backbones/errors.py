"""What can go wrong between a checkpoint, a machine and an embedding."""

from __future__ import annotations

from collections.abc import Sequence

from radclear.errors import RadclearError

MAX_LISTED = 30


class BackboneNameError(RadclearError, ValueError):
    """No backbone of this name, or no such option of it."""


class BackboneCheckpointError(RadclearError, ValueError):
    """A state dict is not, key for key, one of the backbones.

    Attributes:
        missing: keys that the architecture has and the checkpoint lacks.
        unexpected: keys that the checkpoint has and the architecture lacks.
        mismatched: (key, shape in the checkpoint, shape in the architecture).
    """

    def __init__(
        self,
        summary: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        mismatched: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]] = (),
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.mismatched = tuple(mismatched)
        lines = [summary]
        for title, entries in (
            ("missing keys", self.missing),
            ("unexpected keys", self.unexpected),
            (
                "wrong shapes",
                [f"{key} is {found}, expected {wanted}" for key, found, wanted in self.mismatched],
            ),
        ):
            if entries:
                more = f"\n    ... and {len(entries) - MAX_LISTED} more" if len(entries) > MAX_LISTED else ""
                lines.append(
                    f"  {title} ({len(entries)}):\n    " + "\n    ".join(entries[:MAX_LISTED]) + more
                )
        super().__init__("\n".join(lines))


class PrecisionError(RadclearError, ValueError):
    """A precision was asked for that this machine does not compute natively."""


class EmbeddingError(RadclearError, ValueError):
    """Slices that cannot be embedded, or embeddings that are not numbers."""


class DeviceMemoryError(RadclearError, MemoryError):
    """The device has too little memory: for a single slice, for the weights, or for a study's answer."""
