"""A study as one network: chunks, windows, padding, gradients, script."""

import pytest
import torch
from torch import nn

from radclear.aggregation import AggregationError, AttentionMIL, MeanPoolMIL, StudyClassifier, slice_attention
from radclear.backbones import build, embed_slices


class TinyBackbone(nn.Module):
    """A linear map of the mean colour and of one pixel; remembers the largest batch it saw."""

    def __init__(self, embedding_dim: int = 6):
        super().__init__()
        torch.manual_seed(1)
        self.name = "tiny"
        self.image_size = 8
        self.embedding_dim = embedding_dim
        self.linear = nn.Linear(6, embedding_dim)
        self.drop = nn.Dropout(0.5)
        self.largest_batch = 0
        self.seen = 0

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        self.largest_batch = max(self.largest_batch, x.shape[0])
        self.seen += x.shape[0]
        return self.drop(self.linear(torch.cat([x.mean(dim=(2, 3)), x[:, :, 0, 0]], dim=1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x)


def make(aggregator=AttentionMIL, **options):
    torch.manual_seed(2)
    return StudyClassifier(TinyBackbone(), aggregator(6, 4, hidden_dim=8), **options).eval()


def slices(n_studies=2, n_windows=2, depth=9):
    torch.manual_seed(5)
    return torch.randint(0, 256, (n_studies, n_windows, depth, 8, 8), dtype=torch.uint8)


def test_same_numbers_as_embedding_first_and_aggregating_after():
    model, grey = make(chunk_size=4), slices()
    logits = model(grey / 255)
    bags = torch.stack([embed_slices(model.backbone, study, precision="float32") for study in grey])
    expected = model.aggregator(bags)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.attention, model.aggregator.attention, rtol=0, atol=1e-6)
    assert model.attention.shape == (2, 18)


def test_attention_finds_the_slice_and_the_window():
    model = make()
    with torch.no_grad():
        for parameter in (model.aggregator.instance[0].weight, model.aggregator.instance[0].bias):
            parameter.zero_()
        model.aggregator.instance[0].weight[0, 0] = 50.0
        model.aggregator.scorer[0].weight.zero_()[0, 0] = 1.0
        model.aggregator.scorer[2].weight.zero_()[0, 0] = 9.0
        model.backbone.linear.weight.zero_()[0, 0:3] = 1.0
        model.backbone.linear.bias.fill_(-3.0)
    x = torch.zeros(1, 2, 9, 8, 8)
    x[0, 1, 6] = 1.0  # window 1 of slice 6
    model(x)
    assert int(model.attention.argmax()) == 6 * 2 + 1
    assert int(slice_attention(model.attention, 2).argmax()) == 6


@pytest.mark.parametrize("chunk_size", [1, 5, 8, 64])
def test_batches_never_exceed_the_chunk(chunk_size):
    model, x = make(chunk_size=chunk_size), slices(depth=30).float() / 255
    expected = make(chunk_size=8)(x)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)
    assert model.backbone.largest_batch == min(chunk_size, 120)
    assert model.backbone.seen == 120


@pytest.mark.parametrize("aggregator", [AttentionMIL, MeanPoolMIL])
def test_padded_slices_do_not_count_and_are_not_embedded(aggregator):
    model, x = make(aggregator), slices().float() / 255
    x[1, :, 5:] = float("nan")
    logits = model(x, torch.tensor([9, 5]))
    assert model.backbone.seen == 2 * (9 + 5)
    attention = model.attention
    torch.testing.assert_close(logits[:1], model(x[:1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits[1:], model(x[1:, :, :5]), rtol=0, atol=1e-6)
    assert (attention[1, 10:] == 0).all()
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2), rtol=0, atol=1e-6)


def test_frozen_backbone_takes_no_gradient_and_stays_in_evaluation_mode():
    model, x = make().train(), slices().float() / 255
    assert model.training and model.aggregator.training and not model.backbone.training
    model(x).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.aggregator.parameters())


def test_backbone_trains_on_request():
    model, x = make(frozen_backbone=False).train(), slices().float() / 255
    assert model.backbone.training
    model(x, torch.tensor([9, 3])).sum().backward()
    assert model.backbone.linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("frozen", [True, False])
def test_script_equals_eager(frozen, tmp_path):
    model, x = make(chunk_size=4, frozen_backbone=frozen), slices().float() / 255
    torch.jit.script(model).save(tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    for arguments in ((x,), (x, torch.tensor([9, 4])), (x[:1, :1, :1],)):
        torch.testing.assert_close(scripted(*arguments), model(*arguments), rtol=0, atol=1e-6)
        torch.testing.assert_close(scripted.attention, model.attention, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["vit_nano", "mambaout_nano", "vssm_nano"])
def test_every_family_scripts_as_a_study_classifier(name):
    torch.manual_seed(0)
    backbone = build(name)
    model = StudyClassifier(backbone, AttentionMIL(backbone.embedding_dim, 3), chunk_size=1).eval()
    side = backbone.image_size
    x = torch.rand(1, 1, 2, side, side)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x), rtol=1e-4, atol=1e-5)


def test_half_precision_backbone_gives_float32_logits(monkeypatch):
    x = slices().float() / 255
    exact = make()(x)
    monkeypatch.setattr("radclear.aggregation.study_classifier.resolve_precision", lambda *_: torch.bfloat16)
    logits = make(precision="bfloat16")(x)
    assert logits.dtype == torch.float32
    assert not logits.equal(exact)
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)


def test_backbone_and_aggregator_must_fit():
    with pytest.raises(AggregationError, match="width 6.*expects 7"):
        StudyClassifier(TinyBackbone(), AttentionMIL(7, 2))
    with pytest.raises(AggregationError, match="chunk_size is 0"):
        make(chunk_size=0)


@pytest.mark.parametrize(
    ("shape", "counts", "message"),
    [
        ((2, 9, 8, 8), None, r"\[2, 9, 8, 8\]"),
        ((1, 2, 0, 8, 8), None, r"\[1, 2, 0, 8, 8\]"),
        ((2, 2, 9, 8, 8), [9], "each of 2 studies"),
        ((2, 2, 9, 8, 8), [9, 0], "from 1 to 9"),
        ((2, 2, 9, 8, 8), [10, 1], "from 1 to 9"),
    ],
)
def test_wrong_slices_are_named(shape, counts, message):
    with pytest.raises(AggregationError, match=message):
        make()(torch.zeros(shape), None if counts is None else torch.tensor(counts))
