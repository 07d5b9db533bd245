"""Loaders with processes of their own pin batches for a GPU, which fetches them beside its work."""

from __future__ import annotations

import pytest
from bundle_fixtures import BACKBONES, ROOT
from monai.bundle import ConfigParser

from radclear.bundle import pins_memory

TRAININGS = [[f"{name}/configs/train.json"] for name in BACKBONES]
TRAININGS += [[*files, files[0].replace("train", "multi_gpu_train")] for files in TRAININGS]
WARM_UP = [f"lecl_gated_cnn/configs/{name}.json" for name in ("warm_up", "warm_up_stream")]
TRAININGS += [WARM_UP[:1], WARM_UP]


@pytest.mark.parametrize("files", TRAININGS, ids=" ".join)
@pytest.mark.parametrize(("device", "pins"), [("cpu", False), ("cuda", True), ("cuda:3", True)])
def test_batches_are_pinned_for_a_gpu_alone(files, device, pins):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "bundles" / file) for file in files])
    parser["device"] = device
    assert parser["train#dataloader#num_workers"] != 0
    assert parser.get_parsed_content("train#dataloader#pin_memory") is pins
    # LeCLTrainer always copies so, see below; without it pinning would be of no use.
    trainer = parser["train#trainer"]
    assert trainer["_target_"] == "radclear.pretraining.LeCLTrainer" or trainer["non_blocking"] is True


def test_a_device_of_torch_is_understood_too():
    import torch

    assert pins_memory(torch.device("cuda", 1)) and not pins_memory(torch.device("cpu"))
