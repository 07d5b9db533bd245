"""Bundles as objects; what they are comes from their config and metadata, nowhere else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from radclear.aggregation import KINDS, key_slices, slice_attention
from radclear.backbones import told_when_memory_is_short
from radclear.bundle.calibration import calibrated_probabilities
from radclear.bundle.configs import read_config
from radclear.bundle.domain import Domain, describe
from radclear.bundle.head_weights import weights_for_backbone
from radclear.bundle.isotonic import check_isotonic
from radclear.bundle.location import BundleError, read_metadata
from radclear.bundle.network import HeadNetwork, check_windows
from radclear.bundle.weights import (
    DEFAULT_FILE,
    WeightsError,
    read_weights,
    weight_entries,
)
from radclear.ct import Window
from radclear.results import ModelProvenance, TaskAnswer

KEY_SLICE_DISTANCE = 2  # direct neighbours of a key slice show the same and are left out

# Where things lie and on what they run: they differ from machine to machine and change no answer.
_LOCATION_KEYS = (
    "bundle_root",
    "backbone_bundle",
    "dataset_dir",
    "output_dir",
    "device",
    "resume",
    "identifiers",
)


class LoadedBundle:
    """What backbone and head bundles have in common.

    Attributes:
        path, name, version: of the bundle.
        weights_file, weights_sha256: the weight file in use.
        demonstration: True where the weights only show how the software works.
        intended_use: sentence from the metadata.
        windows: `Window`s under which each slice is seen, in the order of the instances.
        image_size: side of a slice after resizing, in pixels.
    """

    def __init__(self, bundle_root: str | Path, *, windows: Sequence[Window], image_size: int) -> None:
        self.path = Path(bundle_root).resolve()
        metadata = read_metadata(self.path)
        self.name: str = metadata.get("name", self.path.name)
        self.version: str = metadata["version"]
        self.intended_use: str = metadata.get("intended_use", "")
        self.windows = tuple(windows)
        self.image_size = int(image_size)
        self.weights_sha256 = ""
        self.demonstration = True

    @property
    def config_sha256(self) -> str:
        """sha256 of the inference config, whatever its layout and the places it names."""
        config = read_config(self.path)
        for key in _LOCATION_KEYS:
            config.pop(key, None)
        config["_effective_"] = self._effective()
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()

    def _effective(self) -> dict[str, Any]:
        """Values in use, which the command line may have changed against the file."""
        windows = [[window.name, window.level_hu, window.width_hu] for window in self.windows]
        return {"windows": windows, "image_size": self.image_size}


class BackboneBundle(LoadedBundle):
    """A backbone with its weights, ready to embed slices.

    Attributes:
        backbone: the network, in evaluation mode.
        embedding_dim: length of an embedding.
    """

    def __init__(
        self,
        bundle_root: str | Path,
        *,
        backbone: nn.Module,
        windows: Sequence[Window],
        image_size: int = 224,
        device: str | torch.device = "cpu",
    ) -> None:
        """
        Args:
            bundle_root: the bundle's folder.
            backbone: network as the config builds it; the bundle's weights are loaded into it.
            windows: see `LoadedBundle`.
            image_size: see `LoadedBundle`.
            device: where the network goes.

        Raises:
            BundleError: the folder is no backbone bundle, or its weights do not fit the network.
        """
        super().__init__(bundle_root, windows=windows, image_size=image_size)
        self.weights_file = self.path / "models" / DEFAULT_FILE
        state_dict, self.weights_sha256 = read_weights(self.path)
        try:
            backbone.load_state_dict(state_dict, strict=True)
        except RuntimeError as error:
            raise WeightsError(f"the weights of {self.name} do not fit its network: {error}") from error
        self.demonstration = bool(weight_entries(self.path)[DEFAULT_FILE]["demonstration"])
        with told_when_memory_is_short(f"{self.name}, with its weights,", device):
            self.backbone = backbone.to(device).eval()
        self.embedding_dim = int(backbone.embedding_dim)


class Head(LoadedBundle):
    """A task head over a backbone, ready to answer.

    Attributes:
        task: `tumor_location`, `lung_disease` or `staging`.
        kind: `multilabel`, `multiclass` or `ordinal`.
        classes: class names, in the order of the logits.
        backbone: the `BackboneBundle` it stands on.
        network: slices of a study → logits, see `HeadNetwork`.
        aggregator: the part of the network that is the head's own.
        temperature: logits are divided by it before they become probabilities; None where there is none.
        isotonic: maps of `radclear.bundle.isotonic` in place of a temperature; None where there are none.
            A head with neither is not calibrated.
        operating_points: class → threshold; None where none were chosen.
        domain: which studies it was trained on; None where its weights do not say.
    """

    def __init__(
        self,
        bundle_root: str | Path,
        *,
        network: HeadNetwork,
        backbone: BackboneBundle,
        task: str,
        kind: str,
        classes: Sequence[str],
        windows: Sequence[Window],
        image_size: int = 224,
        n_key_slices: int = 3,
        device: str | torch.device = "cpu",
    ) -> None:
        """
        Args:
            bundle_root: the bundle's folder.
            network: as the config builds it; the head's weights for this backbone are loaded into it.
            backbone: the backbone bundle inside the network.
            task, kind, classes, windows, image_size: see the attributes.
            n_key_slices: how many slices an answer points at.
            device: where the network goes.

        Raises:
            BundleError: the folder is no head bundle, or has no weights for this backbone.
        """
        super().__init__(bundle_root, windows=windows, image_size=image_size)
        if kind not in KINDS:
            raise BundleError(f"{self.name}: kind is {kind!r}; expected one of {', '.join(KINDS)}")
        check_windows(network.aggregator, len(self.windows))
        file_name = weights_for_backbone(
            self.path, backbone_path=backbone.path, weights_sha256=backbone.weights_sha256
        )
        self.weights_file = self.path / "models" / file_name
        state_dict, self.weights_sha256 = read_weights(self.path, file_name=file_name)
        network.load_state_dict(state_dict)
        self.domain = Domain.of(state_dict)
        entry = weight_entries(self.path)[file_name]
        self.demonstration = bool(entry["demonstration"]) or backbone.demonstration
        self.temperature: float | None = entry.get("temperature")
        self.operating_points: Mapping[str, float] | None = entry.get("operating_points")
        self.task = task
        self.kind = kind
        self.classes = tuple(classes)
        self.isotonic: Mapping[str, Any] | None = entry.get("isotonic")
        if self.isotonic is not None:
            check_isotonic(self.isotonic, kind=kind, classes=self.classes, where=f"{self.name}, {file_name}")
        self.backbone = backbone
        with told_when_memory_is_short(f"{self.name}, with its weights,", device):
            self.network = network.to(device).eval()
        self.aggregator = network.aggregator
        self.n_key_slices = n_key_slices

    def _effective(self) -> dict[str, Any]:
        own = {"classes": list(self.classes), "kind": self.kind, "n_key_slices": self.n_key_slices}
        return {**super()._effective(), **own, "calibration": self._calibration()}

    def _calibration(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "isotonic": self.isotonic,
            "operating_points": self.operating_points,
        }

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(…, C) logits → (…, C) probabilities, calibrated where the head is."""
        return calibrated_probabilities(logits, self._calibration(), kind=self.kind, classes=self.classes)

    def provenance(self, *, precision: str) -> ModelProvenance:
        """Which weights and configuration an answer comes from; `precision` is the encoder's."""
        return ModelProvenance(
            bundle=self.name,
            bundle_version=self.version,
            weights_sha256=self.weights_sha256,
            backbone_bundle=self.backbone.name,
            backbone_version=self.backbone.version,
            backbone_weights_sha256=self.backbone.weights_sha256,
            config_sha256=self.config_sha256,
            precision=precision,
            demonstration=self.demonstration,
        )

    def answer(
        self, probabilities: torch.Tensor, attention: torch.Tensor, feats: torch.Tensor, *, precision: str
    ) -> TaskAnswer:
        """The answer to one study.

        Args:
            probabilities: (C,) or (1, C).
            attention: (Z·W,) or (1, Z·W), windows of a slice beside each other.
            feats: (Z·W, d) or (1, Z·W, d), the embeddings that it was asked about.
            precision: of the encoder.
        """
        per_slice = slice_attention(attention.detach().double().cpu().flatten(), len(self.windows))
        values = probabilities.detach().double().cpu().flatten()
        described = describe(feats.flatten(0, -2), len(self.windows))
        return TaskAnswer(
            task=self.task,
            kind=self.kind,
            classes=self.classes,
            probabilities=values.tolist(),
            attention=per_slice.numpy(),
            key_slices=key_slices(per_slice, self.n_key_slices, min_distance=KEY_SLICE_DISTANCE),
            operating_points=self.operating_points,
            calibrated=self.temperature is not None or self.isotonic is not None,
            domain_distance=self.domain.distance(described) if self.domain else None,
            domain_limit=self.domain.limit if self.domain else None,
            model=self.provenance(precision=precision),
        )
