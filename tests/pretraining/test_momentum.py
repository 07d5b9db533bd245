"""The momentum network and a training step against a second implementation in float64, without shortcuts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.inferers import SimpleInferer
from torch import nn
from torch.utils.data import DataLoader

from radclear.backbones import build
from radclear.pretraining import LeCLLoss, LeCLTrainer, MomentumNetwork, Schedules
from radclear.pretraining.batch_norm import GlobalBatchNorm1d
from radclear.pretraining.collapse import spread
from radclear.pretraining.criterion import EXCLUDE
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.momentum import Pairs

SIDE, WIDTH = 8, 6


class TinyBackbone(nn.Module):
    """A smooth map of a slice to an embedding."""

    embedding_dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, self.embedding_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x.flatten(1)))


def tiny_network(seed: int = 0) -> MomentumNetwork:
    torch.manual_seed(seed)
    network = MomentumNetwork(
        TinyBackbone(), projector_hidden=7, projection_dim=WIDTH, predictor_hidden=9, precision="float32"
    )
    with torch.no_grad():  # apart, so that a confusion of the two is seen
        for parameter in network.momentum_backbone.parameters():
            parameter.mul_(0.7)
    return network


def tiny_batches(count: int, size: int = 6, seed: int = 1) -> list[dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        {
            "view_1": torch.rand(size, 1, SIDE, SIDE, generator=g),
            "view_2": torch.rand(size, 1, SIDE, SIDE, generator=g),
            "lesion": torch.rand(size, generator=g) < 0.5,
            "patient": torch.randint(3, (size,), generator=g),
            "lesion_class": torch.randint(-1, 2, (size,), generator=g),
        }
        for _ in range(count)
    ]


class Reference:
    """LeCL pre-training in float64, written out: weights are a dict, the momentum copy another."""

    def __init__(self, network: MomentumNetwork, *, temperature: float, weight: float) -> None:
        state = {name: v.detach().double() for name, v in network.named_parameters()}
        self.slow = {n.removeprefix("momentum_"): v for n, v in state.items() if n.startswith("momentum_")}
        self.fast = {n: v.clone().requires_grad_() for n, v in state.items() if not n.startswith("momentum_")}
        self.temperature, self.weight = temperature, weight

    @staticmethod
    def _norm(x, scale, shift):
        x = (x - x.mean(0)) / (((x - x.mean(0)) ** 2).mean(0) + 1e-5).sqrt()
        return x if scale is None else x * scale + shift

    def _perceptron(self, w, name, x, layers):
        for i in range(layers):
            key = f"{name}.{3 * i}.weight"
            scale, shift = (w.get(f"{name}.{3 * i + 1}.{part}") for part in ("weight", "bias"))
            x = self._norm(x @ w[key].T, scale, shift)
            x = x.clamp(min=0) if i < layers - 1 else x
        return x

    def _encode(self, w, x):
        mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
        deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)
        x = ((x.double() - mean) / deviation).flatten(1)
        e = torch.tanh(x @ w["backbone.linear.weight"].T + w["backbone.linear.bias"])
        return self._perceptron(w, "projector", e, 3)

    def loss(self, batch):
        unit = [v / v.norm(dim=1, keepdim=True) for v in self._queries_and_keys(batch)]
        return self._one_order(unit[0], unit[3], batch["lesion"]) + self._one_order(
            unit[1], unit[2], batch["lesion"]
        )

    def _queries_and_keys(self, batch):
        views = batch["view_1"], batch["view_2"]
        queries = [self._perceptron(self.fast, "predictor", self._encode(self.fast, x), 2) for x in views]
        with torch.no_grad():
            return [*queries, *(self._encode(self.slow, x) for x in views)]

    def _one_order(self, q, k, lesion):
        losses = []
        for i in range(len(q)):
            s = [q[i] @ k[j] / self.temperature for j in range(len(k))]
            terms = sum(v.exp() for v in s)
            terms = terms + sum((self.weight * v).exp() for j, v in enumerate(s) if lesion[j] and j != i)
            losses.append(terms.log() - s[i])
        return 2 * self.temperature * sum(losses) / len(losses)

    def step(self, batches, rate, momentum, max_norm):
        """SGD with clipping over accumulated batches, then the momentum copy once."""
        loss = sum(self.loss(batch) for batch in batches) / len(batches)
        gradients = torch.autograd.grad(loss, list(self.fast.values()))
        norm = sum((g**2).sum() for g in gradients).sqrt()
        scale = min(1.0, max_norm / (norm.item() + 1e-6))
        with torch.no_grad():
            for v, g in zip(self.fast.values(), gradients, strict=True):
                v -= rate * scale * g
            for name, v in self.slow.items():
                v.copy_(momentum * v + (1 - momentum) * self.fast[name])
        return loss.item(), norm.item()


def trained(network, batches, schedules, *, accumulation, max_norm):
    rows = []
    trainer = LeCLTrainer(
        "cpu",
        1,
        DataLoader(batches, batch_size=None),
        network,
        torch.optim.SGD(network.trained_parameters(), lr=1.0),
        LeCLLoss(temperature=0.5, weight=1.5),
        schedules,
        inferer=SimpleInferer(),
        accumulation=accumulation,
        max_norm=max_norm,
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: rows.append(e.state.output) if e.state.output else None
    )
    trainer.run()
    return rows


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_equals_the_reference(accumulation):
    network, batches = tiny_network(), tiny_batches(6, size=16)
    reference = Reference(network, temperature=0.5, weight=1.5)
    steps = 6 // accumulation
    schedules = Schedules(learning_rate=16.0, batch=16, total_steps=steps, warm_up_steps=1, momentum=0.8)
    rows = trained(network, batches, schedules, accumulation=accumulation, max_norm=0.3)
    assert len(rows) == steps
    for step, row in enumerate(rows):
        group = batches[step * accumulation : (step + 1) * accumulation]
        loss, norm = reference.step(
            group, schedules.learning_rate_at(step), schedules.momentum_at(step), max_norm=0.3
        )
        assert row["loss"] == pytest.approx(loss, rel=1e-5)
        assert row["gradient_norm"] == pytest.approx(norm, rel=1e-3)
        assert norm > 0.3, "the limit must have been at work"
    state = dict(network.named_parameters())
    for name, value in reference.fast.items():
        torch.testing.assert_close(state[name].double(), value, rtol=1e-4, atol=1e-5)
    for name, value in reference.slow.items():
        torch.testing.assert_close(state[f"momentum_{name}"].double(), value, rtol=1e-4, atol=1e-5)


def test_accumulated_steps_move_the_momentum_copy_once():
    network, calls = tiny_network(), []
    network.update = lambda m: calls.append(m)
    schedules = Schedules(learning_rate=1.0, batch=12, total_steps=2)
    trained(network, tiny_batches(4), schedules, accumulation=2, max_norm=None)
    assert calls == [schedules.momentum_at(0), schedules.momentum_at(1)]


def test_shape_of_projector_and_predictor():
    network = MomentumNetwork(
        build("mambaout_nano"), projector_hidden=16, projection_dim=8, predictor_hidden=12
    )
    widths = [(m.in_features, m.out_features) for m in network.projector if isinstance(m, nn.Linear)]
    assert widths == [(240, 16), (16, 16), (16, 8)]
    assert [(m.in_features, m.out_features) for m in network.predictor if isinstance(m, nn.Linear)] == [
        (8, 12),
        (12, 8),
    ]
    for part in (network.projector, network.predictor):
        norms = [m for m in part if isinstance(m, GlobalBatchNorm1d)]
        assert [m.affine for m in norms] == [True] * (len(norms) - 1) + [False]
        assert all(m.bias is None for m in part if isinstance(m, nn.Linear))


def test_keys_get_no_gradient_and_the_copy_is_not_trained():
    network = tiny_network()
    batch = tiny_batches(1)[0]
    pairs = network(batch["view_1"], batch["view_2"])
    assert not pairs.k1.requires_grad and pairs.q1.requires_grad
    LeCLLoss()(pairs, batch).backward()
    assert all(p.grad is None for n, p in network.named_parameters() if n.startswith("momentum_"))
    assert all(p.grad is not None for p in network.trained_parameters())


@pytest.mark.parametrize("name", ["mambaout_nano", "vit_nano", "vssm_nano"])
def test_every_small_backbone_trains_all_its_parameters(name):
    torch.manual_seed(0)
    size = 224 if name == "vit_nano" else 64
    network = MomentumNetwork(build(name), projector_hidden=16, projection_dim=8, predictor_hidden=16)
    views = torch.randint(0, 256, (2, 3, 1, size, size), dtype=torch.uint8)
    batch = {"lesion": torch.tensor([True, False, True])}
    LeCLLoss()(network(*views), batch).backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []  # DistributedDataParallel would wait for them


def test_grey_levels_and_their_shares_of_255_are_the_same():
    network = tiny_network().eval()
    grey = torch.randint(0, 256, (4, 1, SIDE, SIDE), dtype=torch.uint8)
    torch.testing.assert_close(network.embed(grey), network.embed(grey.float() / 255))


def test_half_precision_without_scaling_is_refused(monkeypatch):
    import radclear.pretraining.momentum as module

    monkeypatch.setattr(module, "resolve_precision", lambda precision, device: torch.float16)
    with pytest.raises(PretrainingError, match="scaled gradients"):
        MomentumNetwork(TinyBackbone(), precision="float16", device="cpu")


def test_half_precision_gives_nearly_the_same_loss_in_float32(monkeypatch):
    import radclear.pretraining.momentum as module

    batch, losses = tiny_batches(1, size=32)[0], []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(module, "resolve_precision", lambda precision, device, dtype=dtype: dtype)
        network = tiny_network()
        assert network.dtype == dtype
        pairs = network(batch["view_1"], batch["view_2"])
        assert all(part.dtype == torch.float32 for part in pairs)
        losses.append(LeCLLoss()(pairs, batch))
        losses[-1].backward()
        assert all(p.grad.dtype == torch.float32 for p in network.trained_parameters())
    assert losses[1].dtype == torch.float32 and losses[0].item() != losses[1].item()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)


@pytest.mark.parametrize("exclude", EXCLUDE)
def test_excluded_keys_are_no_negatives(exclude):
    g = torch.Generator().manual_seed(3)
    q1, q2, k1, k2 = (F.normalize(torch.randn(6, 4, generator=g), dim=1) for _ in range(4))
    batch = tiny_batches(1)[0]
    loss = LeCLLoss(temperature=0.3, weight=0.0, exclude=exclude)(Pairs(q1, q2, k1, k2, q1, q2), batch)
    expected = 0.0
    for q, k in ((q1, k2), (q2, k1)):
        for i in range(6):
            keys = [i]
            for j in set(range(6)) - {i}:
                same_patient = batch["patient"][i] == batch["patient"][j]
                same_class = batch["lesion_class"][i] == batch["lesion_class"][j] != -1
                if not {"none": False, "patient": same_patient, "class": same_class}[exclude]:
                    keys.append(j)
            s = [float(q[i] @ k[j]) / 0.3 for j in keys]
            expected += 2 * 0.3 * (math.log(sum(math.exp(v) for v in s)) - s[0]) / 6
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_schedules_against_their_closed_form():
    s = Schedules(learning_rate=1e-4, batch=512, total_steps=100, warm_up_steps=9, momentum=0.99)
    assert s.peak == pytest.approx(2e-4)
    assert s.learning_rate_at(0) == pytest.approx(2e-5) and s.learning_rate_at(9) == pytest.approx(2e-4)
    assert s.learning_rate_at(54) == pytest.approx(1e-4 * (1 + math.cos(math.pi * 45 / 91)))
    assert s.learning_rate_at(100) == pytest.approx(0, abs=1e-12)
    assert s.momentum_at(0) == pytest.approx(0.99) and s.momentum_at(50) == pytest.approx(0.995)
    assert s.momentum_at(100) == 1
    rates = [s.learning_rate_at(i) for i in range(101)]
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)
    fixed = Schedules(learning_rate=1e-4, batch=256, total_steps=10, momentum=0.9, cosine_momentum=False)
    assert {fixed.momentum_at(i) for i in range(10)} == {0.9}


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0}, {"total_steps": 0}, {"warm_up_steps": 11}, {"momentum": 1.2}]
)
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(PretrainingError, match="must all be above 0|expected 0"):
        Schedules(**{"learning_rate": 1e-4, "batch": 256, "total_steps": 10, **wrong})


def test_a_loss_that_is_not_finite_ends_training():
    network, batches = tiny_network(), tiny_batches(1)
    batches[0]["view_1"][0, 0, 0, 0] = float("nan")
    schedules = Schedules(learning_rate=1.0, batch=6, total_steps=1)
    with pytest.raises(PretrainingError, match="lower --learning_rate"):
        trained(network, batches, schedules, accumulation=1, max_norm=1.0)


def test_collapse_figures_have_their_known_values():
    g = torch.Generator().manual_seed(0)
    even = torch.randn(400, 32, generator=g)
    figures = spread(even, even)
    assert figures.feature_std == pytest.approx(1, abs=0.02) and figures.alignment == 0
    # On the sphere of 32 dimensions |u-v|² = 2 - 2t, t of variance 1/32: E exp(-4+4t) ≈ exp(-4+8/32).
    assert figures.uniformity == pytest.approx(-4 + 8 / 32, abs=0.05)
    same = torch.ones(10, 32)
    dead = spread(same, same)
    assert dead.feature_std == pytest.approx(0, abs=1e-6) and dead.uniformity == pytest.approx(0, abs=1e-6)
    assert spread(same, -same).alignment == pytest.approx(4)
    assert math.isnan(spread(same[:1], same[:1]).feature_std)


def test_global_batch_norm_of_one_process_is_torchs():
    torch.manual_seed(0)
    ours, torchs = GlobalBatchNorm1d(4), nn.BatchNorm1d(4)
    torchs.load_state_dict(copy.deepcopy(ours.state_dict()))
    x = torch.randn(9, 4)
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))
