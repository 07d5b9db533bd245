"""What a run leaves behind: checkpoints that it goes on from, its table, its probe."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.inferers import SimpleInferer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from radclear.errors import MissingDependencyError
from radclear.pretraining import (
    Checkpoints,
    EpochBatches,
    KNNProbe,
    LeCLLoss,
    LeCLTrainer,
    MomentumNetwork,
    Progress,
    Schedules,
    collate,
    run_state,
)
from radclear.pretraining.errors import PretrainingError
from radclear.pretraining.probe import knn
from radclear.pretraining.progress import COLUMNS, TableLog, line
from radclear.pretraining.run_state import random_state, set_random_state
from radclear.pretraining.slice_rows import SliceRow

SIDE, N = 8, 24


class Slices(Dataset):
    """Views that depend on the draw alone."""

    def __len__(self):
        return N

    def __getitem__(self, draw):
        g = torch.Generator().manual_seed(1000 * draw.epoch + draw.index)
        views = torch.rand(2, 1, SIDE, SIDE, generator=g)
        return {"view_1": views[0], "view_2": views[1], "lesion": torch.tensor(draw.index % 3 == 0)}


class Dropping(nn.Module):
    """A backbone with dropout, so that the state of torch's generator counts."""

    embedding_dim = 6

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 6), nn.Tanh(), nn.Dropout(0.3))

    def forward(self, x):
        return self.layers(x)


class Killed(Exception):
    pass


def run(
    folder, *, stop_after=None, resume=False, settings=None, max_epochs=3, prepare=None, tensorboard=False
):
    """Three epochs of three steps of two micro-batches; a checkpoint every two steps."""
    torch.manual_seed(7)
    network = MomentumNetwork(
        Dropping(), projector_hidden=8, projection_dim=5, predictor_hidden=8, precision="float32"
    )
    batches = EpochBatches(torch.arange(N) % 3 == 0, batch_size=4, accumulation=2)
    checkpoints = Checkpoints(folder, batches=batches, settings=settings or {"seed": 7}, every_steps=2)
    trainer = LeCLTrainer(
        "cpu",
        max_epochs,
        DataLoader(Slices(), batch_sampler=batches, collate_fn=collate),
        network,
        torch.optim.AdamW(network.trained_parameters(), lr=1.0),
        LeCLLoss(temperature=0.5),
        Schedules(learning_rate=0.5, batch=8, total_steps=3 * max_epochs, warm_up_steps=2),
        inferer=SimpleInferer(),
        accumulation=2,
        train_handlers=[Progress(folder, every_steps=4, tensorboard=tensorboard), checkpoints],
    )
    checkpoints.resume(trainer, resume=resume)
    if prepare:
        prepare(trainer)
    if stop_after:

        def kill(engine):
            if engine.steps == stop_after:
                raise Killed

        trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
    trainer.run()
    return trainer


def losses(folder):
    with (folder / "log.csv").open(newline="") as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


@pytest.mark.parametrize("stop_after", [4, 5, 6, 8])
def test_a_resumed_run_equals_the_uninterrupted_one(whole, tmp_path, stop_after):
    """Stopped in the middle and at the end of an epoch, right after a checkpoint and one step behind it."""
    with pytest.raises(Killed):
        run(tmp_path, stop_after=stop_after)
    assert max(losses(tmp_path)) == stop_after
    random.seed(99), np.random.seed(99)
    resumed = run(tmp_path, resume=True)
    folder, trainer = whole
    assert losses(tmp_path) == pytest.approx(losses(folder), abs=1e-7) and len(losses(folder)) == 9
    for name, value in trainer.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, msg=name)


def test_a_run_that_has_nothing_to_go_on_with_says_so(tmp_path, caplog):
    """Else a mistyped folder would train anew for hours, unnoticed."""
    caplog.set_level("INFO", "radclear.training")
    run(tmp_path / "new", max_epochs=1)
    assert "nothing to go on with" not in caplog.text
    run(tmp_path / "mistyped", resume=True, max_epochs=1)
    assert f"there is no {tmp_path / 'mistyped' / 'checkpoint.pt'}" in caplog.text


def test_a_finished_run_stays_finished(whole):
    folder, trainer = whole
    before = losses(folder)
    again = run(folder, resume=True)
    assert again.is_finished and again.steps == 9 and losses(folder) == before
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value)


class Clock:
    """Stands for the module `time` in `radclear.pretraining.run_state`."""

    now = 500.0

    def perf_counter(self):
        return self.now


def test_the_time_of_a_resumed_run_is_that_of_all_its_steps(tmp_path, monkeypatch):
    """A second per micro-batch: what came behind the last checkpoint, and the time between, do not count."""
    clock = Clock()
    monkeypatch.setattr(run_state, "time", clock)

    def tick(engine):
        clock.now += 1

    def seconds():
        return torch.load(tmp_path / "checkpoint.pt", weights_only=True)["seconds"]

    def prepare(trainer):
        trainer.add_event_handler(Events.ITERATION_STARTED, tick)

    with pytest.raises(Killed):
        run(tmp_path, stop_after=5, prepare=prepare)
    assert clock.now == 510 and seconds() == 8  # written behind step 4, of two micro-batches each
    clock.now += 10_000
    run(tmp_path, resume=True, prepare=prepare)
    assert clock.now == 10_520 and seconds() == 18
    run(tmp_path, resume=True, prepare=prepare)
    assert seconds() == 18


def test_an_earlier_run_is_not_overwritten(whole):
    with pytest.raises(PretrainingError, match="--resume True"):
        run(whole[0])


def test_a_run_goes_on_with_its_settings_only(whole):
    with pytest.raises(PretrainingError, match="seed was 7 and is 8"):
        run(whole[0], resume=True, settings={"seed": 8})


def test_a_checkpoint_is_whole_or_absent(whole, tmp_path, monkeypatch):
    with pytest.raises(Killed):
        run(tmp_path, stop_after=3)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def half(_, file):
        file.write(b"half of it")
        raise Killed

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Killed):
        run(tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    monkeypatch.undo()
    run(tmp_path, resume=True)
    assert losses(tmp_path) == pytest.approx(losses(whole[0]), abs=1e-7)


class Overflowing:
    """Stands in for torch's GradScaler, which works on CUDA alone: it skips the steps that it is told."""

    def __init__(self, overflows, scale=65536.0):
        self.overflows, self.scale_now, self.calls = overflows, scale, 0

    def scale(self, loss):
        return loss

    def unscale_(self, optimizer):
        pass

    def is_enabled(self):
        return True

    def get_scale(self):
        return self.scale_now

    def step(self, optimizer):
        self.calls += 1
        if self.calls not in self.overflows:
            optimizer.step()

    def update(self):
        if self.calls in self.overflows:
            self.scale_now /= 2

    def state_dict(self):
        return {"scale": self.scale_now}


def test_where_a_scaled_gradient_overflows_nothing_moves_on(tmp_path):
    """Of nine steps the first and the fifth overflow: momentum and rate are those of steps 0 to 6."""
    seen = []

    def watch(trainer):
        trainer.grad_scaler = Overflowing({1, 5})
        before = {}

        def remember(engine):
            before.update({k: v.clone() for k, v in engine.momentum_network.named_parameters()})

        def compare(engine):
            after = dict(engine.momentum_network.named_parameters())
            seen.append((engine.steps, all(torch.equal(before[name], after[name]) for name in before)))

        trainer.add_event_handler(Events.ITERATION_STARTED(every=2), remember)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), compare)

    trainer = run(tmp_path, prepare=watch)
    assert [unmoved for _, unmoved in seen] == [call in (1, 5) for call in range(1, 10)]
    assert [steps for steps, _ in seen] == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert trainer.skipped == 2 and trainer.steps == 7
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    plan = trainer.schedules
    assert [int(row["step"]) for row in rows] == list(range(1, 8))
    for n, row in enumerate(rows):
        assert float(row["momentum"]) == pytest.approx(plan.momentum_at(n))
        assert float(row["learning_rate"]) == pytest.approx(plan.learning_rate_at(n))


def test_a_gradient_that_never_fits_ends_the_run(tmp_path):
    def watch(trainer):
        trainer.grad_scaler = Overflowing(set(range(100)), scale=2.0)

    with pytest.raises(PretrainingError, match="not finite behind step 0 .* --precision bfloat16"):
        run(tmp_path, prepare=watch)


def test_random_states_come_back():
    def draw():
        return random.random(), np.random.random(), float(torch.rand(())), np.random.normal()

    np.random.normal()  # leaves a cached number
    state = random_state()
    first = draw()
    draw()
    set_random_state(state)
    assert draw() == first


def test_the_table_has_every_step_and_figure(whole):
    with (whole[0] / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and [int(r["step"]) for r in rows] == list(range(1, 10))
    assert [int(r["epoch"]) for r in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert all(0 <= float(r["data_wait_share"]) <= 1 and float(r["images_per_s"]) > 0 for r in rows)


def test_lines_show_how_far_the_run_is(whole):
    _, trainer = whole
    row = dict.fromkeys(COLUMNS, 1.0) | {"step": 3, "epoch": 1}
    text = line(row, trainer)
    assert (
        "[#######-------------] step 3/9 (33 %)" in text and "loss 1.0000 lr 1.00e+00 momentum 1.0000" in text
    )
    assert "[--------------------]" in line({**row, "step": 0}, trainer)
    assert "[####################]" in line({**row, "step": 9}, trainer)


def test_a_torn_row_is_dropped(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("step,loss\n1,0.5\n2,0.4\n3,")
    TableLog(path, ("step", "loss"), after_step=3).append({"step": 3, "loss": 0.3})
    assert path.read_text() == "step,loss\n1,0.5\n2,0.4\n3,0.3\n"


def test_each_collapse_is_named_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="radclear")
    progress = Progress(tmp_path)
    for deviation in (0.5, 0.01, 0.005, float("nan"), 0.6, 0.001):
        progress._warn(deviation)
    assert caplog.text.count("has collapsed") == 2


def test_tensorboard_holds_every_figure_of_the_table_once(tmp_path):
    """Read back with TensorBoard's reader, after a run that was stopped behind a checkpoint and resumed."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Killed):
        run(tmp_path, stop_after=5, tensorboard=True)
    run(tmp_path, resume=True, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and sorted(events.Tags()["scalars"]) == sorted(COLUMNS[2:])
    for name in COLUMNS[2:]:
        found = events.Scalars(name)
        assert [event.step for event in found] == [int(row["step"]) for row in rows]
        assert [event.value for event in found] == pytest.approx([float(row[name]) for row in rows], rel=1e-6)


def test_tensorboard_that_is_missing_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="pip install 'tensorboard'"):
        Progress(tmp_path, tensorboard=True)


BOX = ((1.0, 1.0, 4.0, 4.0),)


def rows_of(split, n_lesion, n_disease, n_none, label=""):
    kinds = ["lesion"] * n_lesion + ["disease"] * n_disease + ["none"] * n_none
    return [
        SliceRow(
            Path(kind), study=f"{split}{i}", patient=f"{split}{i}", split=split, slice_index=i, label=label,
            boxes=() if kind == "none" else BOX, tumor=kind != "disease",
        )
        for i, kind in enumerate(kinds)
    ]  # fmt: skip


class Rows:
    """Slices whose view is bright where there is a lesion, under those windows that show it."""

    def __init__(self, rows, shown=(True,)):
        self.rows, self.shown = rows, shown

    def whole_views(self, index):
        bright = 1.0 if self.rows[index].lesion_or_not == "lesion" else -1.0
        return torch.tensor([[bright, -bright] if shows else [3.0, 3.0] for shows in self.shown])


class AsItIs:
    """Stands for engine, network and backbone: the view is the embedding."""

    def __init__(self):
        self.momentum_network = self.backbone = self.state = self
        self.device = "cpu"
        self.eval = self.train = lambda: None

    def embed(self, views):
        return views


def test_the_probe_asks_for_lesion_or_none_and_leaves_out_signs_of_lung_disease(tmp_path):
    train, asked = Rows(rows_of("train", 30, 9, 200)), Rows(rows_of("val", 7, 5, 60))
    probe = KNNProbe(tmp_path, train=train, validation=asked)
    assert probe.asks == "lesion" and probe.classes == ["lesion", "none"]
    result = probe.result(AsItIs())
    assert result == (1.0, 0.5, 2, 14)
    for data, chosen, each in ((train, probe._bank, 30), (asked, probe._asked, 7)):
        found = [data.rows[i].lesion_or_not for i in chosen]
        assert found.count("lesion") == found.count("none") == each == len(found) / 2
    few = KNNProbe(tmp_path, train=train, validation=asked, max_slices=8)
    assert len(few._bank) == len(few._asked) == 8


@pytest.mark.parametrize("shown", [(False, True), (True, False), (False, False, True), (True, True)])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_the_probe_sees_all_windows(shown, batch_size, tmp_path):
    """A lesion that only one window shows is found, whichever that is, and though others are brighter."""
    train, asked = (Rows(rows_of(split, 30, 0, 30), shown) for split in ("train", "val"))
    probe = KNNProbe(tmp_path, train=train, validation=asked, batch_size=batch_size)
    assert probe.result(AsItIs()) == (1.0, 0.5, 2, 60)
    blind = Rows(asked.rows, [False] * len(shown))
    probe = KNNProbe(tmp_path, train=Rows(train.rows, blind.shown), validation=blind)
    assert probe.result(AsItIs()).balanced_accuracy == 0.5


def test_the_probe_asks_for_labels_where_no_slice_has_a_box(tmp_path, caplog):
    caplog.set_level("INFO", "radclear.training")
    data = [Rows(rows_of(s, 0, 0, 5, "a") + rows_of(s, 0, 0, 5, "b")) for s in ("train", "val")]
    probe = KNNProbe(tmp_path, train=data[0], validation=data[1])
    assert probe.asks == "class" and probe.classes == ["a", "b"]
    assert not caplog.messages
    assert not KNNProbe(tmp_path, train=data[0], validation=data[1], labels="lesion")._asked
    assert "no probe" in caplog.text
    caplog.clear()
    KNNProbe(tmp_path, train=data[0], validation=data[1], every_epochs=0)
    assert not caplog.messages  # not asked for, so nothing is missing
    boxed = [Rows(d.rows + rows_of("x", 3, 0, 0, "a")) for d in data]
    assert KNNProbe(tmp_path, train=boxed[0], validation=boxed[1]).asks == "lesion"
    assert KNNProbe(tmp_path, train=boxed[0], validation=boxed[1], labels="class").asks == "class"
    with pytest.raises(PretrainingError, match="probe_labels is 'site'"):
        KNNProbe(tmp_path, train=data[0], validation=data[1], labels="site")


def test_nearest_neighbours_vote_as_in_a_loop():
    g = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(40, 6, generator=g), torch.randn(15, 6, generator=g)
    labels = torch.randint(3, (40,), generator=g)
    expected = []
    for q in queries.double():
        cosines = [float(q @ b / q.norm() / b.norm()) for b in bank.double()]
        nearest = sorted(range(40), key=lambda j: -cosines[j])[:7]
        votes = [sum(np.exp(cosines[j] / 0.07) for j in nearest if labels[j] == c) for c in range(3)]
        expected.append(int(np.argmax(votes)))
    assert knn(bank, labels, queries, n_classes=3, k=7).tolist() == expected
