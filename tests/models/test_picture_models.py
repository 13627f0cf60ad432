"""What the families that read pictures are, held against their papers and against hand counts."""

import io

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
import torch
from PIL import Image

from limbeck import parts
from limbeck.errors import UserError
from limbeck.graph import to_onnx
from limbeck.model import Model
from limbeck.models.depthwise_separable import DepthwiseSeparable
from limbeck.models.lenet import Lenet
from limbeck.models.picture_convolution import PictureConvolution
from limbeck.models.pixel_linear import PixelLinear
from limbeck.models.residual_network import Block, ResidualNetwork
from limbeck.picture_reader import Pixels
from limbeck.task import Problem
from limbeck.types import Axis, Rows


def problem(size=(28, 28), mode="L", rows=24):
    random = np.random.default_rng(0)
    made = []
    for _ in range(rows):
        shape = size if mode == "L" else (*size, 3)
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(file, "png")
        made.append(file.getvalue())
    table = pa.table({"picture": pa.array(made, pa.binary()), "label": [str(i % 10) for i in range(rows)]})
    held = Rows(table, np.arange(rows), "here", {"picture": "picture", "label": "label"})
    return Problem(held, held, held, Axis("label", tuple("0123456789")), ("picture",))


def built(family, of=None):
    of = of or problem()
    encoder = family.encoder(of)
    torch.manual_seed(0)
    return Model(type(family).__module__.rpartition(".")[2], {}, encoder, family.module(encoder, 10), 10)


def test_pixels_are_what_the_formula_says() -> None:
    found = Pixels((0.5, 0.25, 0.0), (0.25, 0.5, 1.0))(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert found[0, :, 0, 0].tolist() == [2.0, 1.5, 1.0]
    assert not Pixels((0.5,), (0.25,)).state_dict()


def test_lenet_has_lenet_5s_parameters() -> None:
    # LeCun et al. 1998, fully connected in its third layer: 156 + 2,416 + 48,120 + 10,164 + 850.
    assert built(Lenet()).parameters == 61_706


def test_parameters_counted_by_hand() -> None:
    # (1 x 9 x 4) + (4 x 9 x 6), batch norm of 4 and 6 (weight, bias, mean, variance), head 6 x 10 + 10.
    assert built(PictureConvolution(widths=(4, 6))).parameters == 36 + 216 + 40 + 70
    # 1 x 9 x 8, one depthwise 8 x 9 and pointwise 8 x 16, batch norms of 8, 8, 16, head 16 x 10 + 10.
    assert built(DepthwiseSeparable(widths=(8, 16))).parameters == 72 + 72 + 128 + 4 * 32 + 170


def test_the_multiplier_makes_widths_of_eights() -> None:
    module = built(DepthwiseSeparable(widths=(32, 64), multiplier=0.3)).module
    assert module.head.in_features == 16


def test_a_block_adds_what_came_in() -> None:
    block = Block(4, 4, 1).eval()
    torch.nn.init.zeros_(block.second.weight)
    states = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(states), states)
    assert Block(4, 8, 2).eval()(states).shape == (2, 8, 3, 3)


@pytest.mark.parametrize("name", ["residual_network", "picture_convolution", "depthwise_separable", "pixel_linear"])
def test_colour_and_other_sizes_are_found_on_training_rows(name) -> None:
    settings = {"widths": (4, 8)} if name in ("residual_network", "picture_convolution") else {}
    model = built(parts.make("models", name, settings), problem((20, 33), "RGB"))
    assert model.encoder.encodings[0].size == (20, 33)
    assert model.encoder.encodings[0].channels == 3
    assert model(problem((50, 7), "L", 3).train.batch(["picture"]))["logits"].shape == (3, 10)


def test_size_and_channels_are_not_those_of_the_label_that_comes_first() -> None:
    grey, colour = problem(rows=300).train.table, problem((48, 64), "RGB", rows=900).train.table
    held = Rows(pa.concat_tables([grey, colour]), np.arange(1200), "here", {"picture": "picture", "label": "label"})
    sorted_by_label = Problem(held, held, held, Axis("label", tuple("0123456789")), ("picture",))
    (picture,) = PictureConvolution().encoder(sorted_by_label).encodings
    assert (picture.size, picture.channels) == ((48, 64), 3)
    (picture,) = PictureConvolution(size=(9, 9)).encoder(sorted_by_label).encodings
    assert (picture.size, picture.channels) == ((9, 9), 3)


def test_what_has_nothing_to_drop_knows_no_dropout() -> None:
    assert parts.make("models", "lenet", {"dropout": 0.1}).dropout == 0.1
    with pytest.raises(UserError, match="dropout"):
        parts.make("models", "pixel_linear", {"dropout": 0.1})


def test_a_large_picture_is_read_at_its_share_of_224() -> None:
    assert built(PictureConvolution(widths=(4,)), problem((300, 600), rows=2)).encoder.encodings[0].size == (112, 224)
    assert built(PictureConvolution(widths=(4,), size=(300, 600)), problem(rows=2)).encoder.encodings[0].size == (
        300,
        600,
    )


@pytest.mark.parametrize("family", [Lenet(mirror=True), PictureConvolution(widths=(4, 6), mirror=True)])
def test_a_mirrored_picture_gets_the_same_answer_and_it_is_the_mean_of_both(family) -> None:
    module = built(family).module.eval()
    picture = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        both = [module.answer(module.pixels(one)) for one in (picture, picture.flip(3))]
        assert not torch.allclose(*both, atol=1e-3)
        torch.testing.assert_close(module(picture)["logits"], (both[0] + both[1]) / 2)
        torch.testing.assert_close(module(picture.flip(3))["logits"], module(picture)["logits"])


def test_training_sees_a_picture_or_its_mirror_image_about_equally_often() -> None:
    module = built(PictureConvolution(widths=(4,), mirror=True)).module.train()
    seen = []
    module.answer = lambda numbers: seen.append(numbers) or numbers.new_zeros(len(numbers), 10)
    half = torch.zeros(1000, 1, 28, 28, dtype=torch.uint8)
    half[:, :, :, :14] = 255
    torch.manual_seed(0)
    module(half)
    left, right = (seen[0][:, 0, 0, place] > 0 for place in (0, 27))
    assert bool((left ^ right).all())
    assert 450 < int(left.sum()) < 550


def test_inner_states_of_a_mirrored_network_are_the_pictures_own() -> None:
    model = built(PictureConvolution(widths=(4, 6), mirror=True))
    batch = problem().train.batch(["picture"])
    heard = model.tapped(["features"])(batch)["hidden.features"]
    own = model.module.features(model.module.pixels(torch.from_numpy(model.encoder(batch)["picture"])))
    np.testing.assert_allclose(heard, own.detach().numpy(), atol=1e-6)


@pytest.mark.slow
def test_a_mirrored_network_leaves_with_every_weight_once_and_the_same_answers() -> None:
    module = built(PictureConvolution(widths=(4, 6), mirror=True)).module.eval()
    picture = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    exported = to_onnx(module, {"picture": picture[:3].numpy()})
    assert [node.op_type for node in onnx.load_from_string(exported).graph.node].count("Conv") == 2
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for rows in (1, 5):
        (said,) = session.run(None, {"picture": picture[:rows].numpy()})
        np.testing.assert_allclose(said, module(picture[:rows])["logits"].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (lambda: PictureConvolution(widths=()), "widths is"),
        (lambda: ResidualNetwork(blocks=0), "blocks 0"),
        (lambda: DepthwiseSeparable(multiplier=0), "multiplier is 0"),
        (lambda: PixelLinear(side=0), "side is 0"),
        (lambda: Lenet(dropout=1.0), "dropout is 1"),
        (lambda: Lenet(channels=2), "channels is 2"),
        (lambda: Lenet(size=(0, 5)), "size is"),
        (lambda: Lenet(deviation=(0.0,)), "deviations must be above 0"),
        (lambda: built(Lenet(), problem((8, 8))), "lenet needs 12"),
        (lambda: built(Lenet(mean=(0.1, 0.2, 0.3))), "mean has 3 numbers for pictures of 1 channel"),
    ],
)
def test_impossible_settings_are_refused(family, said) -> None:
    with pytest.raises(UserError, match=said):
        family()


def test_pixel_linear_is_scikit_learns_on_pooled_pixels() -> None:
    from sklearn.linear_model import LogisticRegression

    of = problem((8, 8), rows=60)
    family = PixelLinear(side=4, inverse_l2=0.5, iterations=2000)
    model = built(family, of)
    pictures = model.encoder.rows(of.train)["picture"]
    label = np.arange(60) % 10
    family.fit(model.module, {"picture": pictures}, np.eye(10)[label], None)
    pooled = ((pictures[:, 0] / 255 - 0.5) / 0.25).reshape(60, 4, 2, 4, 2).mean((2, 4)).reshape(60, 16)
    wanted = LogisticRegression(C=0.5, max_iter=2000).fit(pooled, label).decision_function(pooled)
    np.testing.assert_allclose(model(of.train.batch(["picture"]))["logits"], wanted, atol=2e-3)
