"""What the model zoo checks of every bundle, and what radclear promises of its own six."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from bundle_fixtures import BACKBONES, HEADS, ROOT
from monai.bundle import ConfigParser, ckpt_export, create_workflow, verify_metadata, verify_net_in_out

from radclear.bundle import check_config, load_backbone_bundle, load_head
from radclear.phantom import DISEASE_CLASSES, LESION_KINDS, LOCATION_CLASSES, STAGE_CLASSES

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:parsing config_file"),
]
ALL = (*BACKBONES, *HEADS)
CLASSES = dict(zip(HEADS, (LOCATION_CLASSES, DISEASE_CLASSES, STAGE_CLASSES), strict=True))
SCHEMA = Path(__file__).with_name("metadata_schema.json")


def configs(name: str) -> dict[str, dict]:
    files = (ROOT / "bundles" / name / "configs").glob("*.json")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


@pytest.mark.parametrize("name", ALL)
def test_the_files_of_the_zoo_are_there(name):
    root = ROOT / "bundles" / name
    for file in (
        "configs/metadata.json",
        "configs/inference.json",
        "configs/logging.conf",
        "docs/data_license.txt",
    ):
        assert (root / file).is_file(), file
    assert (root / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    if name in HEADS:
        assert {"train", "evaluate"} <= set(configs(name))
    assert not list(root.rglob("*.py")), "bundles hold no Python"


@pytest.mark.parametrize("name", ALL)
def test_card_and_metadata_say_what_the_bundle_is_for(name):
    card = (ROOT / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")
    metadata = configs(name)["metadata"]
    assert metadata["name"] == name
    assert metadata["version"] in metadata["changelog"]
    for text in (card, metadata["intended_use"]):
        assert "research use only" in text.lower()
        assert "demonstration weights" in text.replace("*", "").lower()
    for section in (
        "Model Overview",
        "Data",
        "Input",
        "Output",
        "Performance",
        "MONAI Bundle Commands",
        "License",
    ):
        assert re.search(rf"^##+ {section}", card, re.MULTILINE), section


@pytest.mark.parametrize("name", ALL)
def test_commands_of_the_card_use_options_that_the_configs_have(name):
    card = (ROOT / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"python -m monai\.bundle run .*", card)
    assert commands
    for command in commands:
        config = re.search(r"/configs/(\w+)\.json", command)[1]
        for option in re.findall(r"--(\w+)", command):
            assert option == "config_file" or option in configs(name)[config], command
    for option in re.findall(r"`--(\w+) ", card):
        assert any(option in config for config in configs(name).values()), option


@pytest.mark.parametrize("name", ALL)
def test_metadata_is_valid(name, bundles):
    verify_metadata(meta_file=str(bundles / name / "configs" / "metadata.json"), filepath=str(SCHEMA))


def test_metadata_without_a_required_field_is_not_valid(tmp_path):
    metadata = configs("lecl_vit")["metadata"]
    for field in ("network_data_format", "required_packages_version", "copyright", "version"):
        broken = {key: value for key, value in metadata.items() if key != field}
        file = tmp_path / f"{field}.json"
        file.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=field):
            verify_metadata(meta_file=str(file), filepath=str(SCHEMA))


@pytest.mark.parametrize("name", ALL)
def test_network_has_the_inputs_and_outputs_of_the_metadata(name, bundles):
    root = bundles / name
    verify_net_in_out(
        "network_def",
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=str(root / "configs" / "inference.json"),
        device="cpu",
        any=2,
        bundle_root=str(root),
    )


@pytest.mark.parametrize("name", ALL)
def test_exported_torchscript_is_the_network(name, bundles, tmp_path):
    root, target = bundles / name, tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        filepath=str(target),
        ckpt_file=str(root / "models" / "model.pt"),
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=str(root / "configs" / "inference.json"),
        bundle_root=str(root),
    )
    scripted = torch.jit.load(target).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        if name in BACKBONES:
            images = torch.randn(2, 3, 224, 224, generator=generator)
            expected = load_backbone_bundle(root).backbone(images)
        else:
            images = torch.rand(1, 2, 2, 224, 224, generator=generator)
            expected = load_head(root, precision="float32").network(images)
        torch.testing.assert_close(scripted(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_workflow_has_the_required_properties(name, bundles):
    workflow = create_workflow(
        config_file=str(bundles / name / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(bundles / name),
        logging_file=False,
        device="cpu",
    )
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", ALL)
def test_config_code_only_describes(name):
    for stem, config in configs(name).items():
        check_config(config, source=f"{name}/{stem}")


@pytest.mark.parametrize("name", HEADS)
def test_classes_are_those_of_the_task(name):
    for stem in ("inference", "evaluate", "train"):
        config = configs(name)[stem]
        assert tuple(config["classes"]) == CLASSES[name]
        assert config["aggregator"]["n_classes"] == len(CLASSES[name])
    output = configs(name)["metadata"]["network_data_format"]["outputs"]["pred"]
    assert list(output["channel_def"].values()) == list(CLASSES[name])
    columns = configs(name)["train"]["table"]["classes"]
    assert tuple(columns) == CLASSES[name]
    kinds = DISEASE_CLASSES if name.startswith("lung") else LESION_KINDS
    assert tuple(configs(name)["evaluate"]["box_kinds"]) == kinds


@pytest.mark.parametrize("name", HEADS)
def test_the_three_configs_of_a_head_describe_one_model(name):
    shared = (
        "task",
        "kind",
        "classes",
        "image_size",
        "windows",
        "n_key_slices",
        "aggregator",
        "backbone_bundle",
    )
    first, *others = (configs(name)[stem] for stem in ("inference", "evaluate", "train"))
    for other in others:
        assert {key: other[key] for key in shared} == {key: first[key] for key in shared}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_metadata_states_the_embedding_length(name):
    network = ConfigParser(configs(name)["inference"]).get_parsed_content("network_def")
    output = configs(name)["metadata"]["network_data_format"]["outputs"]["pred"]
    assert output["num_channels"] == network.embedding_dim


def test_bundle_as_monai_label_uses_it(bundles, studies):
    # MONAI Label reads the config without the metadata, sets root and device, and applies the parts by hand.
    root = bundles / HEADS[1]
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.config.update({"bundle_root": str(root), "device": "cpu"})
    item = parser.get_parsed_content("preprocessing")({"image": str(studies / "DOE^JANE_0")})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True), strict=True)
    head = load_head(root)
    with torch.inference_mode():
        image = item["image"].unsqueeze(0)
        item["pred"] = parser.get_parsed_content("inferer")(image, network.eval())
        expected = head.probabilities(head.network(image))
    answer = parser.get_parsed_content("postprocessing")(item)["pred"]
    torch.testing.assert_close(answer, expected)
