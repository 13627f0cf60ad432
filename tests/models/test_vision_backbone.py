"""Any vision network of transformers: its own answers, its own normalisation, and what stays frozen."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    MobileNetV2Config,
    MobileNetV2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
)

from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.models.vision_backbone import VisionBackbone
from limbeck.task import Problem
from limbeck.testing import check_model
from limbeck.types import Axis, Rows

TINY = {
    "resnet": (ResNetModel, ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")),
    "convnext": (ConvNextModel, ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2)),
    "mobilenet_v2": (MobileNetV2Model, MobileNetV2Config(depth_multiplier=0.1, min_depth=4, finegrained_output=False)),
    "vit": (
        ViTModel,
        ViTConfig(
            hidden_size=8,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=12,
            image_size=32,
            patch_size=16,
        ),
    ),
}
MEAN, DEVIATION = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


def saved(folder, kind="resnet", **processor):
    model, config = TINY[kind]
    torch.manual_seed(0)
    model(config).save_pretrained(folder)
    said = {"image_mean": MEAN, "image_std": DEVIATION, "size": {"height": 32, "width": 32}, **processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def problem(rows=4):
    random = np.random.default_rng(0)
    made = []
    for _ in range(rows):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "png")
        made.append(file.getvalue())
    table = pa.table({"picture": pa.array(made, pa.binary()), "label": ["a", "b"] * (rows // 2)})
    held = Rows(table, np.arange(rows), "here", {"picture": "picture", "label": "label"})
    return Problem(held, held, held, Axis("label", ("a", "b")), ("picture",))


def build(folder, **settings):
    told = {"source": str(folder), **settings}
    family = VisionBackbone(**told)
    encoder = family.encoder(problem())
    torch.manual_seed(1)
    return Model("vision_backbone", told, encoder, family.module(encoder, 2).eval(), 2)


@pytest.mark.parametrize("kind", TINY)
def test_it_says_what_the_network_itself_says_of_pictures_normalised_its_way(kind, tmp_path) -> None:
    model = build(saved(tmp_path / "net", kind))
    batch = problem().train.batch(["picture"])
    raw = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in batch["picture"]]) / 255
    numbers = torch.from_numpy(((raw - MEAN) / DEVIATION).transpose(0, 3, 1, 2)).float()
    network = TINY[kind][0].from_pretrained(tmp_path / "net").eval()
    with torch.no_grad():
        states = network(pixel_values=numbers).last_hidden_state
        mean = states.mean(1) if kind == "vit" else states.mean((2, 3))
        expected = F.linear(mean, model.module.head.weight, model.module.head.bias)
    np.testing.assert_allclose(model(batch)["logits"], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_it_keeps_the_contract_of_models(kind, tmp_path) -> None:
    check_model(VisionBackbone(str(saved(tmp_path / "net", kind)), mirror=True), problem(8))


def test_a_sequence_may_be_read_at_its_first_place(tmp_path) -> None:
    model = build(saved(tmp_path / "net", "vit"), pooling="cls")
    numbers = model.module.pixels(torch.from_numpy(model.encoder(problem().train.batch(["picture"]))["picture"]))
    with torch.no_grad():
        first = model.module.body(pixel_values=numbers).last_hidden_state[:, 0]
        torch.testing.assert_close(model.module.pooled(numbers), first)


@pytest.mark.parametrize(
    ("processor", "size"),
    [
        ({"size": {"shortest_edge": 40}}, (40, 40)),
        ({"size": 48}, (48, 48)),
        ({"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 36, "width": 44}}, (36, 44)),
    ],
)
def test_the_size_is_the_image_processors(processor, size, tmp_path) -> None:
    assert build(saved(tmp_path / "net", **processor)).encoder.encodings[0].size == size


def test_a_network_that_was_not_normalised_is_not(tmp_path) -> None:
    module = build(saved(tmp_path / "net", do_normalize=False)).module
    assert module.pixels(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)).unique().tolist() == pytest.approx([0.2])


def moved_by_a_step(folder, **settings):
    module = build(folder, **settings).module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    asked = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    F.cross_entropy(module(asked)["logits"], torch.arange(4) % 2).backward()
    torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1).step()
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_stages_that_are_frozen_stay_and_so_does_what_lies_before_them(tmp_path) -> None:
    folder = saved(tmp_path / "net")
    moved = moved_by_a_step(folder, frozen=1)
    assert not any(name.startswith(("body.embedder", "body.encoder.stages.0")) for name in moved)
    assert any(name.startswith("body.encoder.stages.1") for name in moved)
    assert moved_by_a_step(folder, frozen=-1) == {"head.weight", "head.bias"}
    assert any(name.startswith("body.embedder") for name in moved_by_a_step(folder))


def test_layers_of_a_transformer_are_frozen_alike(tmp_path) -> None:
    moved = moved_by_a_step(saved(tmp_path / "net", "vit"), frozen=2)
    assert not any(name.startswith(("body.embeddings.", "body.layers.0.", "body.layers.1.")) for name in moved)
    assert any(name.startswith("body.layers.2.") for name in moved)


def test_a_saved_model_is_built_again_without_its_folder(tmp_path) -> None:
    model = build(saved(tmp_path / "net"))
    model.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "net")
    with pytest.warns(UserWarning, match="not on this machine"):
        again = Model.load(tmp_path / "model")
    batch = problem().train.batch(["picture"])
    np.testing.assert_array_equal(again(batch)["logits"], model(batch)["logits"])


def test_other_weights_under_the_same_name_are_other_content(tmp_path) -> None:
    family = VisionBackbone(str(saved(tmp_path / "net")))
    before = family.content()
    saved(tmp_path / "net", "convnext")
    assert family.content() != before


def broken(folder, change):
    saved(folder)
    if change == "no processor":
        (folder / "preprocessor_config.json").unlink()
    elif change == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    ("change", "said"), [("no processor", "has no preprocessor_config.json"), ("pickled", "holds no safetensors")]
)
def test_a_folder_that_lacks_something_is_refused(change, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said):
        build(broken(tmp_path / "net", change))


@pytest.mark.parametrize(
    ("processor", "said"),
    [({"rescale_factor": 1.0}, "multiplies pixels by 1.0"), ({"size": None}, "names no size of pictures")],
)
def test_an_image_processor_that_cannot_be_followed_is_refused(processor, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said):
        build(saved(tmp_path / "net", **processor))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"frozen": -2}, "frozen is -2"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"size": (0, 3)}, "size is"),
    ],
)
def test_impossible_settings_are_refused(settings, said) -> None:
    with pytest.raises(UserError, match=said):
        VisionBackbone("org/name", **settings)


def test_more_stages_than_there_are_cannot_be_frozen(tmp_path) -> None:
    with pytest.raises(UserError, match="the network has 2 stages"):
        build(saved(tmp_path / "net"), frozen=3)
