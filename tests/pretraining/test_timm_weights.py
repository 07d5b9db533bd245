"""Models of the real timm package, with random weights, computed by timm and by the backbones here."""

from __future__ import annotations

import pytest
import torch

from radclear.backbones import BackboneCheckpointError, build, load_backbone
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.starting_weights import start_backbone

timm = pytest.importorskip("timm", reason="timm is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """timm makes the model; nothing is fetched."""
    create = timm.create_model

    def offline(name, *, pretrained):
        assert pretrained
        torch.manual_seed(0)
        return create(name, pretrained=False).eval()

    monkeypatch.setattr(timm, "create_model", offline)


@pytest.fixture
def slices():
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_mambaout_of_timm_is_the_same_network_here(slices):
    reference = timm.create_model("mambaout_femto", pretrained=True)
    network = start_backbone(build("mambaout_femto"), "timm:mambaout_femto").eval()
    with torch.inference_mode():
        map_ = reference.forward_features(slices)
        torch.testing.assert_close(network.tokens(slices), map_.flatten(1, 2), rtol=1e-4, atol=1e-4)
        embedding = network.embed(slices)
        logits = reference.forward_head(map_)  # pools, norms and classifies
        head = reference.head
        own = head.fc(head.pre_logits(embedding))
        torch.testing.assert_close(own, logits, rtol=1e-3, atol=1e-4)


def test_vit_of_timm_is_the_same_network_here(slices):
    reference = timm.create_model("vit_base_patch16_224", pretrained=True)
    network = start_backbone(build("vit_base"), "timm:vit_base_patch16_224").eval()
    with torch.inference_mode():
        tokens = reference.forward_features(slices)[:, 1:]
        torch.testing.assert_close(network.tokens(slices), tokens, rtol=1e-4, atol=1e-4)


def test_a_vit_of_other_heads_is_another_network():
    with pytest.raises(PretrainingError, match="vit_small_patch16_224 has 6 attention heads.* 12"):
        start_backbone(build("vit_small"), "timm:vit_small_patch16_224")


def test_what_is_no_backbone_here_is_refused():
    state = timm.create_model("convnext_atto", pretrained=True).state_dict()
    with pytest.raises(BackboneCheckpointError):
        load_backbone(state)
