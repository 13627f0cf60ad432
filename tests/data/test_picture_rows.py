"""Rows made of pictures: views that keep their label, and mixtures that have none."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from limbeck import parts
from limbeck.bind import bind, problem_of, taught_rows
from limbeck.check import check
from limbeck.data.mixed_pictures import MixedPictures, mixed
from limbeck.data.picture_views import PictureViews
from limbeck.errors import UserError
from limbeck.made_pictures import opened
from limbeck.picture import png
from limbeck.recipe import Recipe, parse
from limbeck.run import begin, descended, labelled_split
from limbeck.types import Array, Rows

DRAW = np.random.default_rng(0)
GREY = [DRAW.integers(0, 256, (12, 10, 1), dtype=np.uint8) for _ in range(6)]
COLOUR = [DRAW.integers(0, 256, (9, 11, 3), dtype=np.uint8) for _ in range(4)]
ALL = {"crop": 0.4, "flip": True, "colour": 0.3, "erase": 0.5, "operations": 2}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def rows(pictures: list[Array] | None = None) -> Rows:
    files = [png(pixels) for pixels in (pictures or [*GREY, *COLOUR])]
    table = pa.table({"kind": list(map(str, range(len(files)))), "photo": pa.array(files, pa.binary())})
    return Rows(table, np.arange(len(files)) * 3 - 4, "album", {"picture": "photo", "label": "kind"})


def pixels(made: Rows) -> list[Array]:
    return [opened(data) for data in made.column("photo")]


def test_the_rows_stay_and_every_view_has_its_rows_id_label_size_and_channels() -> None:
    given = rows()
    made = PictureViews(views=2, **ALL).augment(given)
    assert made.table.slice(0, 10) == given.table
    assert made.id.tolist() == given.id.tolist() * 3
    assert made.key.view.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert made.table.column("kind").to_pylist() == given.table.column("kind").to_pylist() * 3
    assert made.roles == given.roles
    assert made.source != given.source
    shapes = [one.shape for one in pixels(made)]
    assert shapes == shapes[:10] * 3
    assert len({png(one) for one in pixels(made)}) == 30, "no view is its picture, or another view of it"


def test_a_view_hangs_on_seed_id_and_number_alone() -> None:
    given = rows()
    whole = PictureViews(views=2, **ALL).augment(given)
    # Among other rows, in another order, and of more views, it is the same.
    order = np.array([7, 2, 5])
    some = PictureViews(views=3, **ALL).augment(given.take(order))
    for number in (1, 2):
        wanted = whole.take(order + 10 * number).column("photo")
        assert some.take(np.arange(3) + 3 * number).column("photo") == wanted
    other = PictureViews(views=2, seed=1, **ALL).augment(given)
    assert all(a != b for a, b in zip(whole.column("photo")[10:], other.column("photo")[10:], strict=True))
    assert len({whole.fingerprint, some.fingerprint, other.fingerprint, given.fingerprint}) == 4


def test_views_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = PictureViews(flip=True).augment(rows())

    def fails(*_: Any) -> None:
        raise AssertionError("it is in the cache")

    monkeypatch.setattr(PictureViews, "view", fails)
    again = PictureViews(flip=True).augment(rows())
    assert again.fingerprint == first.fingerprint
    assert again.table == first.table


def test_half_of_the_flipped_views_are_mirror_images() -> None:
    made = PictureViews(views=20, flip=True).augment(rows(GREY))
    found = [
        (one == GREY[place % 6]).all(axis=None) * 1 + (one == GREY[place % 6][:, ::-1]).all(axis=None) * 2
        for place, one in enumerate(pixels(made)[6:])
    ]
    assert set(found) == {1, 2}
    assert 40 < found.count(2) < 80


def test_a_crop_is_a_window_of_the_picture_scaled_back() -> None:
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))[:, :, None]
    for one in pixels(PictureViews(views=5, crop=0.5).augment(rows([ramp])))[1:]:
        rise = np.diff(one[16, :, 0].astype(int))
        assert (rise >= 0).all(), "a window of a ramp is a ramp"
        assert 0.4 * 255 < int(one.max()) - int(one.min()) <= 255
        assert np.abs(one - one[:1]).max() <= 2, "its rows are alike"


def test_erasing_takes_one_rectangle_and_leaves_the_rest() -> None:
    plain = np.full((40, 40, 3), 200, np.uint8)
    made = pixels(PictureViews(views=30, erase=0.5).augment(rows([plain])))[1:]
    gone = [(one != 200).any(axis=2) for one in made]
    assert 5 < sum(mask.any() for mask in gone) < 25
    for mask in gone:
        if mask.any():
            y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert mask[y[0] : y[-1] + 1, x[0] : x[-1] + 1].all()
            assert 0.01 < mask.mean() < 0.4


def test_colours_move_and_shapes_stay() -> None:
    grey, colour = np.full((8, 8, 1), 100, np.uint8), np.tile(np.array([[[200, 100, 50]]], np.uint8), (8, 8, 1))
    for plain in (grey, colour):
        for one in pixels(PictureViews(views=6, colour=0.3).augment(rows([plain])))[1:]:
            assert (one == one[:1, :1]).all(), "a plain picture stays plain"
            assert (one != plain).any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "nothing is done to the views"),
        ({"views": 0, "flip": True}, "views is 0"),
        ({"crop": 1.0}, "crop 1.0"),
        ({"erase": 1.5}, "erase 1.5"),
        ({"operations": 1, "strength": 31}, "strength 31"),
    ],
)
def test_impossible_views_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        PictureViews(**wrong)


def test_views_of_views_are_refused() -> None:
    with pytest.raises(UserError, match="views already"):
        PictureViews(flip=True).augment(PictureViews(flip=True).augment(rows()))


def test_mixup_is_the_weighted_mean() -> None:
    found = mixed(GREY[0], GREY[1], "mixup", 0.3, np.random.default_rng(0))
    assert np.abs(found - (0.3 * GREY[0].astype(float) + 0.7 * GREY[1])).max() <= 0.5


@pytest.mark.parametrize("share", [0.0, 0.36, 0.75, 1.0])
def test_cutmix_pastes_one_rectangle_of_the_other_share(share: float) -> None:
    black, white = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    draws = [np.random.default_rng(seed) for seed in range(200)]
    pasted = [mixed(black, white, "cutmix", share, draw)[:, :, 0] > 0 for draw in draws]
    for mask in pasted:
        y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert not len(y) or mask[y[0] : y[-1] + 1, x[0] : x[-1] + 1].all()
        assert mask.mean() <= 1 - share + 0.02
    # Where its middle lies so that nothing is cut off, it has the whole share.
    assert max(mask.mean() for mask in pasted) == pytest.approx(1 - share, abs=0.06)


def test_mixtures_have_no_label_and_more_of_them_begin_alike() -> None:
    given = rows()
    few, more, other = (MixedPictures(count=count, seed=seed).make(given) for count, seed in ((6, 0), (9, 0), (6, 1)))
    assert few.table.column("kind").null_count == 6
    assert few.table.schema == given.table.schema
    assert more.column("photo")[:6] == few.column("photo")
    assert other.column("photo") != few.column("photo")
    assert len({few.source, more.source, other.source, given.source}) == 4
    sizes = {one.shape[:2] for one in pixels(more)}
    assert sizes <= {(12, 10), (9, 11)}


def test_a_mixture_is_grey_where_both_are() -> None:
    assert all(one.shape[2] == 1 for one in pixels(MixedPictures(count=8).make(rows(GREY))))
    assert all(one.shape[2] == 3 for one in pixels(MixedPictures(count=8).make(rows(COLOUR))))
    assert mixed(GREY[0], COLOUR[0], "mixup", 0.5, np.random.default_rng(0)).shape == (12, 10, 3)


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(UserError, match="count is 0"):
        MixedPictures(count=0)
    with pytest.raises(UserError, match="'mixup', 'cutmix' or 'both' was wanted"):
        parts.make("data", "mixed_pictures", {"count": 1, "way": "mosaic"})
    with pytest.raises(UserError, match="two pictures"):
        MixedPictures(count=1).make(rows(GREY[:1]))


RECIPE = """\
task: classify_image
data:
  path: pics/
  augment: {make: picture_views, views: 2, flip: true, crop: 0.2}
  unlabelled: [{make: mixed_pictures, count: 20}]
protocols:
  - {name: random, split: {kind: random, stratify: true}}
teacher: {model: picture_convolution, widths: [4], allow_weak: true}
students:
  - {model: picture_convolution, name: small, widths: [3]}
objective:
  - {loss: kl}
training: {epochs: 1, batch_size: 32}
seeds: [0]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for place, name in enumerate(("bottom", "top")):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(20):
            one = DRAW.integers(0, 160, (8, 8)).astype(np.uint8)
            one[4 * place : 4 * place + 3] += 60
            Image.fromarray(one).save(tmp_path / "pics" / name / f"{i}.png")
    return tmp_path


def recipe(text: str = RECIPE) -> Recipe:
    return parse(text)[0]


def test_training_rows_have_their_views_and_those_that_judge_have_none(shop: Path) -> None:
    bare = problem_of(bind(recipe(RECIPE.replace("  augment", "  # augment")), shop), recipe().protocols[0], 0)
    problem = problem_of(bind(recipe(), shop), recipe().protocols[0], 0)
    count = len(bare.train)
    assert len(problem.train) == 3 * count
    assert problem.facts["views_of_training_rows"] == 2 * count
    for part in ("validation", "test"):
        assert getattr(problem, part).fingerprint == getattr(bare, part).fingerprint
    judging = {png(opened(data)) for part in (problem.validation, problem.test) for data in part.column("picture")}
    assert not judging & {png(opened(data)) for data in problem.train.column("picture")}
    assert problem.unlabelled is not None
    assert len(taught_rows(problem)) == 3 * count + len(problem.unlabelled)


@pytest.mark.slow
def test_teacher_student_and_twin_train_on_the_same_views_and_knowledge_is_of_the_view(shop: Path) -> None:
    only = recipe(RECIPE.replace("  unlabelled", "  # unlabelled"))
    desk, bound = begin(only, shop, shop / "out", None)
    split = labelled_split(desk, bound, only.protocols[0], 0)
    train = split.problem.train
    assert taught_rows(split.problem) is train
    said = split.store.gather(train.id, train.key.view)["logits"]
    own = np.concatenate([split.tutor.predictor(batch)["logits"] for batch in train.batches(16)])
    np.testing.assert_allclose(said, own, atol=2e-2)  # kept in bfloat16
    count = len(train) // 3
    assert np.abs(said[:count] - said[count : 2 * count]).max() > 0.05, "another view, another answer"
    split = descended(desk, only, split)
    sources = {
        (lived.folder / "training.json").read_text().partition('"source": ')[2]
        for lived in (*split.tutor.lived, *split.students["small"], *split.twins["small"])
    }
    assert len(sources) == 1
    assert train.source in sources.pop()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("augment: {make: picture_views, views: 2, flip: true, crop: 0.2}", "augment: {flip: true}"), "names what"),
        (("make: picture_views, views: 2, flip: true, crop: 0.2", "make: mixed_pictures, count: 2"), "keep their row"),
        (("make: mixed_pictures, count: 20", "make: picture_views, flip: true"), "honest twin must have them too"),
        (("make: mixed_pictures, count: 20", "make: csv, path: a.csv"), "it belongs under data.path"),
        (("crop: 0.2", "crop: 2"), "crop 2"),
        (("crop: 0.2", "crops: 0.2"), "did you mean 'crop'"),
    ],
)
def test_views_and_mixtures_in_the_wrong_place_are_found_before_any_work(
    shop: Path, change: tuple[str, str], said: str
) -> None:
    assert check(*parse(RECIPE), shop) == []
    found = check(*parse(RECIPE.replace(*change)), shop)
    assert any(said in mistake.message for mistake in found), [mistake.message for mistake in found]


def test_the_bytes_of_a_view_are_a_picture() -> None:
    data = PictureViews(flip=True).view(png(COLOUR[0]), 3, 1)
    assert Image.open(io.BytesIO(data)).format == "PNG"
