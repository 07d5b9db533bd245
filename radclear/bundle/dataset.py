"""Studies as MONAI sees them: a dataset over study sources and the transform that reads one."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import Dataset
from monai.transforms import MapTransform

from radclear.bundle.run_record import StudyRun
from radclear.ct import StudySource, Window, read_study, slice_stack

FAILURE = "failure"


class ReadStudyd(MapTransform):
    """Replace the source or path of a study under each key by its slices, and keep the study beside them.

    Adds `study` (`radclear.ct.Study`) and `seconds` (time by stage) to the dictionary.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        windows: Sequence[Window],
        image_size: int = 224,
        policy: str = "warn",
        series: str | None = None,
        grey_levels: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        """
        Args:
            keys: where the sources are.
            windows: each becomes a channel.
            image_size: side of a slice after resizing.
            policy: `warn` or `strict`, see `radclear.ct.read_study`.
            series: SeriesInstanceUID to read where there are several.
            grey_levels: uint8 grey levels instead of float32 in [0, 1].
            allow_missing_keys: see `monai.transforms.MapTransform`.
        """
        super().__init__(keys, allow_missing_keys)
        self.windows = tuple(windows)
        self.image_size = image_size
        self.policy = policy
        self.series = series
        self.grey_levels = grey_levels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """(W, Z, S, S) under each key."""
        out = dict(data)
        for key in self.key_iterator(out):
            source = out[key]
            path = source.path if isinstance(source, StudySource) else source
            start = time.perf_counter()
            study = read_study(path, series=self.series, policy=self.policy)
            read = time.perf_counter()
            slices = slice_stack(study, windows=self.windows, size=self.image_size)
            out[key] = slices if self.grey_levels else slices.float().div_(255)
            out["study"] = study
            out["seconds"] = {"read": read - start, "window": time.perf_counter() - read}
        return out


class StudyDataset(Dataset):
    """The studies that a run still has to do, each as `{"image": …, "source": …}` after the transform.

    A study that cannot be read becomes `{"failure": error, "source": …}`, so that the run can go on with the
    next.
    """

    def __init__(self, data: StudyRun, transform: Any = None) -> None:
        """
        Args:
            data: the run; its pending studies are looked up when they are first needed.
            transform: applied to `{"image": source, "source": source}`.
        """
        super().__init__(data=data, transform=transform)

    def __len__(self) -> int:
        return len(self.data.pending)

    def _transform(self, index: int) -> dict[Hashable, Any]:
        source = self.data.pending[index]
        try:
            return apply_transform(self.transform, {"image": source, "source": source})
        except Exception as error:  # whatever is wrong with one study, the others go on
            return {FAILURE: error, "source": source}


def apply_transform(transform: Any, item: dict[Hashable, Any]) -> dict[Hashable, Any]:
    """The item after a transform, which may be absent; an error comes without MONAI's wrapping."""
    if transform is None:
        return item
    try:
        return transform(item)
    except RuntimeError as error:
        raise error.__cause__ or error from None


def collate_study(batch: Sequence[dict[Hashable, Any]]) -> dict[Hashable, Any]:
    """A batch of one study: its image with a batch dimension, everything else as it is."""
    (item,) = batch
    image = item.get("image")
    return {**item, "image": image.unsqueeze(0)} if isinstance(image, torch.Tensor) else dict(item)
