"""Bags of stored embeddings with their labels, and their batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from radclear.cohort.auxiliary import AuxiliaryLabels
from radclear.cohort.embedded_study import EmbeddedStudy, EmbeddingStoreError, encode_attribute
from radclear.cohort.labels import LabelTable
from radclear.cohort.store import EmbeddingStore

SAME_FOR_ALL = ("encoder", "weight_sha256", "windows", "image_size")


class BagDataset(Dataset):
    """One split of a label table, as bags.

    Attributes:
        studies: the rows of the split, in order.
        excluded: (study, reason) of all rows of the table that cannot be used.
        n_positive: class → studies of the split that have it.
        not_learnable: see `LabelTable.not_learnable`, of the split.
        embedding_dim: width of the embeddings.
        n_windows: instances per slice.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        table: LabelTable,
        split: str,
        max_instances: int | None = None,
        *,
        sampling: str = "even",
        expected: Mapping[str, Any] | None = None,
        in_memory: bool = False,
        annotated: Mapping[str, Sequence[Collection[int]]] | None = None,
        auxiliary: AuxiliaryLabels | None = None,
    ) -> None:
        """
        Args:
            store: holds the embeddings; studies missing there are excluded.
            table: labels and splits.
            split: which of them.
            max_instances: longer bags are thinned to whole slices (all windows of one) of at most this many
                instances. Neither way of thinning looks at labels or annotations.
            sampling: `"even"`: slices at even distances, always the same, for evaluation; `"random"`: drawn
                anew at every access from torch's generator, for training.
            expected: attributes that the embeddings must have, for example the `weight_sha256` of a head's
                backbone.
            in_memory: keep the bags after the first access.
            annotated: study → for each of K findings the indices of the slices annotated with it; items then
                tell which instances lie on them.
            auxiliary: labels beside the classes, which the items then have, too.

        Raises:
            EmbeddingStoreError: embeddings of different backbones, windows or sizes, or others than expected.
        """
        if sampling not in ("even", "random"):
            raise EmbeddingStoreError(f"sampling is {sampling!r}; expected even or random")
        table = table.in_store(store)
        self.store = store
        self.kind = table.kind
        self.classes = table.classes
        self.studies = table.split(split)
        self.excluded = table.excluded
        self.n_positive = table.n_positive(split)
        self.not_learnable = table.not_learnable(split)
        self.max_instances = max_instances
        self.sampling = sampling
        self.annotated = annotated
        self.auxiliary = auxiliary
        self._kept: dict[str, EmbeddedStudy] | None = {} if in_memory else None
        self._check_provenance(expected or {})
        first = store.read(self.studies[0].key)
        self.embedding_dim = first.feats.shape[1]
        self.n_windows = first.n_windows
        if max_instances is not None and max_instances < self.n_windows:
            raise EmbeddingStoreError(
                f"max_instances is {max_instances}; expected {self.n_windows} or more, one slice with its "
                "windows"
            )

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """
        Returns:
            `feats` (n, d) float32, `coords` (n, 3) float32, `label` ((C,) float32 for multilabel, () int64
            for multiclass and ordinal), and the strings `study`, `key`, `patient` and `split`; `annotated`
            (n, K) bool where the data set knows of annotations, `auxiliary` (K,) int64 where of such labels.
        """
        row = self.studies[index]
        study = self._read(row.key)
        chosen = self._chosen(len(study.feats))
        coords = study.coords[chosen]
        item = {}
        if self.annotated is not None:
            item["annotated"] = self._annotated(row.study, coords[:, 0])
        if self.auxiliary is not None:
            item["auxiliary"] = torch.tensor(self.auxiliary.of(row.study))
        return item | {
            "feats": study.feats[chosen],
            "coords": coords,
            "label": torch.tensor(row.label),  # floats become float32, a class index int64
            "study": row.study,
            "key": row.key,
            "patient": row.patient,
            "split": row.split,
        }

    def _annotated(self, study: str, slice_index: torch.Tensor) -> torch.Tensor:
        n_findings = len(next(iter(self.annotated.values()), ((),)))
        findings = self.annotated.get(study, ((),) * n_findings)
        slices = [torch.tensor(sorted(found), dtype=slice_index.dtype) for found in findings]
        return torch.stack([torch.isin(slice_index, found) for found in slices], dim=1)

    def _read(self, key: str) -> EmbeddedStudy:
        if self._kept is None:
            return self.store.read(key)
        if key not in self._kept:
            self._kept[key] = self.store.read(key)
        return self._kept[key]

    def _chosen(self, n_instances: int) -> torch.Tensor | slice:
        if self.max_instances is None or n_instances <= self.max_instances:
            return slice(None)
        depth, keep = n_instances // self.n_windows, self.max_instances // self.n_windows
        if self.sampling == "random":
            slices = torch.randperm(depth)[:keep].sort().values
        else:
            slices = ((torch.arange(keep) + 0.5) * depth / keep).long()
        return (slices.unsqueeze(1) * self.n_windows + torch.arange(self.n_windows)).flatten()

    def _check_provenance(self, expected: Mapping[str, Any]) -> None:
        """Embeddings of two encoders are numbers of two kinds: one bag set, one provenance."""
        wanted = {name: (encode_attribute(value), "expected") for name, value in expected.items()}
        for row in self.studies:
            attributes = self.store.attributes(row.key)
            for name in (*SAME_FOR_ALL, *expected):
                value, origin = wanted.setdefault(name, (attributes.get(name), row.key))
                if attributes.get(name) != value:
                    raise EmbeddingStoreError(
                        f"embeddings {row.key} of encoder {attributes.get('encoder')} have {name} "
                        f"{attributes.get(name)!r}, but {value!r} is "
                        f"{'expected' if origin == 'expected' else f'that of {origin}'}; embed the cohort "
                        "with one backbone and one set of windows, into a folder of its own, and name that "
                        "backbone with --backbone_bundle where it is not the head's"
                    )


def collate_bags(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Pad bags to the longest.

    Args:
        items: from a `BagDataset`.

    Returns:
        `feats` (B, n, d) float32, zero where padded; `mask` (B, n) bool, True where real; `coords` (B, n, 3),
        -1 where padded; `label` (B, C) or (B,); `study`, `key`, `patient`, `split`: lists of B; `annotated`
        (B, n, K) bool and `auxiliary` (B, K) int64 where the items have it.
    """
    lengths = torch.tensor([len(item["feats"]) for item in items])
    pad = torch.nn.utils.rnn.pad_sequence
    batch: dict[str, Any] = {
        "feats": pad([item["feats"] for item in items], batch_first=True),
        "mask": torch.arange(int(lengths.max())).unsqueeze(0) < lengths.unsqueeze(1),
        "coords": pad([item["coords"] for item in items], batch_first=True, padding_value=-1.0),
        "label": torch.stack([item["label"] for item in items]),
    }
    if "annotated" in items[0]:
        batch["annotated"] = pad([item["annotated"] for item in items], batch_first=True)
    if "auxiliary" in items[0]:
        batch["auxiliary"] = torch.stack([item["auxiliary"] for item in items])
    return batch | {name: [item[name] for item in items] for name in ("study", "key", "patient", "split")}


def prepare_bag_batch(
    batch: Mapping[str, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor | None, tuple, dict[str, torch.Tensor]]:
    """`prepare_batch` of MONAI's trainers and evaluators for bags: feats, label, and the mask as an argument.

    Args:
        batch: from `collate_bags`.
        device: where the tensors go.
        non_blocking: passed on to `Tensor.to`.

    Returns:
        feats, label, no positional and one keyword argument of the network. Where the batch tells of
        annotations, the label is a triple: label, `annotated` and `mask`; where of auxiliary labels, it is a
        pair: that and `auxiliary`.
    """

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=device, non_blocking=non_blocking)

    label = batch.get("label")
    target = None if label is None else move(label)
    if target is not None and "annotated" in batch:
        target = target, move(batch["annotated"]), move(batch["mask"])
    if target is not None and "auxiliary" in batch:
        target = target, move(batch["auxiliary"])
    return move(batch["feats"]), target, (), {"mask": move(batch["mask"])}
