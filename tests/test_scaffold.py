from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck.check import check
from limbeck.cli import main
from limbeck.errors import UserError
from limbeck.recipe import Training, parse
from limbeck.scaffold import Scaffold, scaffold


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def table(folder: Path, columns: dict[str, list[object]], name: str = "rows.parquet") -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def buys(count: int = 400) -> dict[str, list[object]]:
    draw = random.Random(0)
    return {
        "customer_id": [draw.randrange(20) for _ in range(count)],
        "productCode": [f"p{draw.randrange(30)}" for _ in range(count)],
        "bought_at": list(range(1_700_000_000, 1_700_000_000 + count)),
        "price": [draw.random() for _ in range(count)],
    }


def reviews(good: str = "really lovely thing", bad: str = "really awful thing") -> dict[str, list[object]]:
    return {
        "id": list(range(200)),
        "comment": [f"{good if i % 2 else bad} {i}" for i in range(200)],
        "sentiment": [i % 2 for i in range(200)],
    }


def right(made: Scaffold, folder: Path) -> None:
    recipe, lines = parse(made.text)
    assert check(recipe, lines, folder) == []


def test_buys_become_recommendation_in_time(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, buys()), tmp_path)
    assert made.task == "recommend"
    assert made.roles == {"user": "customer_id", "item": "productCode", "time": "bought_at"}
    assert "kind: leave_last_out" in made.text
    assert "# not used: price" in made.text
    right(made, tmp_path)


def test_without_a_time_users_rows_are_split_at_random(tmp_path: Path) -> None:
    columns = buys()
    del columns["bought_at"]
    made = scaffold(table(tmp_path, columns), tmp_path)
    assert "kind: user_random" in made.text
    right(made, tmp_path)


def test_reviews_become_classification(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, reviews()), tmp_path)
    assert made.task == "classify_text"
    assert made.roles == {"text": "comment", "label": "sentiment", "id": "id"}
    assert "model: transformer" in made.text
    right(made, tmp_path)


def test_scripts_without_spaces_get_a_teacher_that_reads_characters(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, reviews("这件东西真的非常好用", "这件东西真的非常难用")), tmp_path)
    assert "model: character_transformer" in made.text
    right(made, tmp_path)


def test_a_column_of_parts_is_kept_to(tmp_path: Path) -> None:
    columns = {**reviews(), "split": [("train", "train", "test")[i % 3] for i in range(200)]}
    made = scaffold(table(tmp_path, columns), tmp_path)
    assert made.roles["split"] == "split"
    assert "kind: given" in made.text
    right(made, tmp_path)


@pytest.mark.parametrize(("delimiter", "said"), [(",", None), (";", "delimiter: ;"), ("|", "delimiter: '|'")])
def test_a_csv_is_read_with_what_stands_between_its_cells(tmp_path: Path, delimiter: str, said: str | None) -> None:
    columns = buys()
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    made = scaffold(tmp_path / "rows.csv", tmp_path)
    assert said is None or said in made.text
    assert ("delimiter" in made.text) == (said is not None)
    right(made, tmp_path)


def test_a_csv_of_another_encoding_is_read_and_the_recipe_says_so(tmp_path: Path) -> None:
    columns = {"用户": [f"u{i % 9}" for i in range(40)], **buys(40)}
    lines = [";".join(columns), *(";".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    file = tmp_path / "buys.csv"
    file.write_bytes("\n".join(lines).encode("gb18030"))
    made = scaffold(file, tmp_path, encoding="gb18030")
    assert "  encoding: gb18030\n  delimiter: ;\n" in made.text
    right(made, tmp_path)
    with pytest.raises(UserError, match="is not utf-8"):
        scaffold(file, tmp_path)
    with pytest.raises(UserError, match="only a CSV has another encoding"):
        scaffold(table(tmp_path, buys()), tmp_path, encoding="gb18030")


def test_recboles_usual_names_need_no_guess(tmp_path: Path) -> None:
    rows = [f"{i % 9}\t{i * 5 % 14}\t{i % 5}\t{i}" for i in range(90)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (tmp_path / "shop.inter").write_text("\n".join([header, *rows]) + "\n")
    made = scaffold(tmp_path / "shop.inter", tmp_path)
    assert made.roles == {"user": "user_id", "item": "item_id", "time": "timestamp", "label": "rating"}
    assert "positive: null" in made.text
    right(made, tmp_path)


def test_names_that_yaml_would_take_for_something_else_survive(tmp_path: Path) -> None:
    columns = reviews()
    columns["label: yes #1"] = columns.pop("sentiment")
    made = scaffold(table(tmp_path, columns), tmp_path)
    assert made.roles["label"] == "label: yes #1"
    right(made, tmp_path)


def test_columns_that_answer_no_question_are_said_so(tmp_path: Path) -> None:
    file = table(tmp_path, {"a": [1.5, 2.5, 3.5], "b": [1.0, 2.0, 3.0]})
    with pytest.raises(UserError, match=r"the columns a, b suggest no task"):
        scaffold(file, tmp_path)
    with pytest.raises(UserError, match="looks like the role 'user' or 'item'"):
        scaffold(file, tmp_path, "recommend")
    with pytest.raises(UserError, match="no task 'forecast'"):
        scaffold(file, tmp_path, "forecast")


def test_a_file_elsewhere_is_named_whole(tmp_path: Path) -> None:
    inner = tmp_path / "recipes"
    inner.mkdir()
    file = table(tmp_path, buys())
    assert f"path: {file.resolve()}" in scaffold(file, inner).text


def test_init_writes_once_and_what_it_writes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path, buys())
    assert main(["init", str(file)]) == 0
    assert "user = customer_id" in capsys.readouterr().out
    before = (tmp_path / "recipe.yaml").read_text()
    assert main(["init", str(file)]) == 2
    assert (tmp_path / "recipe.yaml").read_text() == before
    quick = ["--set", "training.epochs=2", "--set", "seeds=[0]", "--set", "teacher.allow_weak=true"]
    assert main(["distill", str(tmp_path / "recipe.yaml"), *quick, "--quiet"]) == 0


CHINESE_REVIEW = "这个商品的质量真的很好我非常喜欢"


@pytest.mark.parametrize(
    ("columns", "task", "roles"),
    [
        (
            {"用户": "name", "商品": "name", "时间": "count", "价格": "price"},
            "recommend",
            {"user": "用户", "item": "商品", "time": "时间"},
        ),
        (
            {"用户ID": "name", "商品编号": "name", "下单时间": "count"},
            "recommend",
            {"user": "用户ID", "item": "商品编号", "time": "下单时间"},
        ),
        ({"评论": "text", "标签": "label"}, "classify_text", {"text": "评论", "label": "标签"}),
        (
            {"评论内容": "text", "评分": "label", "评论时间": "count"},
            "classify_text",
            {"text": "评论内容", "label": "评分"},
        ),
        (
            {"序号": "count", "商品评价": "text", "情感类别": "label"},
            "classify_text",
            {"text": "商品评价", "label": "情感类别", "id": "序号"},
        ),
        ({"评价": "label", "评论": "text"}, "classify_text", {"text": "评论", "label": "评价"}),
        ({"评价内容": "text", "评价等级": "label"}, "classify_text", {"text": "评价内容", "label": "评价等级"}),
        ({"評論內容": "text", "評價": "label"}, "classify_text", {"text": "評論內容", "label": "評價"}),
        ({"店铺": "name", "满意度": "label", "评语": "text"}, "classify_text", {"text": "评语", "label": "满意度"}),
        (
            {"买家昵称": "name", "宝贝": "name", "评论时间": "count"},
            "recommend",
            {"user": "买家昵称", "item": "宝贝", "time": "评论时间"},
        ),
    ],
)  # fmt: skip
def test_columns_with_chinese_names_are_known(
    tmp_path: Path, columns: dict[str, str], task: str, roles: dict[str, str]
) -> None:
    draw = random.Random(0)
    kinds: dict[str, Callable[[int], object]] = {
        "name": lambda _: f"n{draw.randrange(20)}",
        "count": lambda i: 1_700_000_000 + i,
        "price": lambda _: draw.random(),
        "text": lambda i: f"{CHINESE_REVIEW}{i}",
        "label": lambda i: i % 3 if "评分" in columns else ["好", "坏"][i % 2],
    }
    made = scaffold(
        table(tmp_path, {name: [kinds[kind](i) for i in range(300)] for name, kind in columns.items()}), tmp_path
    )
    assert (made.task, made.roles) == (task, roles)
    right(made, tmp_path)


def test_roles_are_given_where_guessing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"who": [f"u{i % 9}" for i in range(90)], "what": [f"i{i * 5 % 14}" for i in range(90)]}
    file = table(tmp_path, {**columns, "product": [f"p{i % 7}" for i in range(90)]})
    with pytest.raises(UserError, match=r"suggest no task .*: --role NAME=COLUMN"):
        scaffold(file, tmp_path)
    made = scaffold(file, tmp_path, given={"user": "who"})
    assert made.roles == {"user": "who", "item": "product"}
    assert main(["init", str(file), "--role", "user=who", "--role", "item=what", "--json"]) == 0
    assert '"item": "what"' in capsys.readouterr().out
    right(scaffold(file, tmp_path, given={"user": "who", "item": "what"}), tmp_path)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["user"], "--role takes NAME=COLUMN, such as text=review; found 'user'"),
        (["user="], "--role takes NAME=COLUMN"),
        (["user=customer_id", "user=price"], "--role user is given twice: customer_id and price"),
        (["user=customer"], "--role user=customer: there is no column 'customer'; did you mean 'customer_id'?"),
        (["colour=price"], "task 'recommend' has no use for the role 'colour'; it reads: user, item, time, label"),
    ],
)
def test_a_role_that_cannot_be_given_is_refused(
    tmp_path: Path, said: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = table(tmp_path, buys())
    assert main(["init", str(file), *(word for one in said for word in ("--role", one))]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "recipe.yaml").exists()


def training_of(made: Scaffold) -> tuple[Training, Training]:
    """The students', and the teacher's."""
    recipe, _ = parse(made.text)
    own = recipe.training
    return own, Training.model_validate({**own.model_dump(), **recipe.teacher.training})


@pytest.mark.parametrize("count", [200, 600, 3_000, 20_000])
@pytest.mark.parametrize("split", [False, True])
def test_small_files_of_text_are_seen_as_often_as_makes_enough_steps(tmp_path: Path, count: int, split: bool) -> None:
    columns: dict[str, list[object]] = {
        "review": [f"a thing that is {'good' if i % 2 else 'bad'} indeed {i}" for i in range(count)],
        "stars": [i % 2 for i in range(count)],
    }
    if split:
        columns["split"] = [["train", "train", "train", "validation", "test"][i % 5] for i in range(count)]
    made = scaffold(table(tmp_path, columns), tmp_path)
    rows = count * 6 // 10 if split or count < 500 else count * 8 // 10
    own, teachers = training_of(made)
    steps = own.epochs * -(-rows // 64)
    assert 740 <= steps <= 900 or own.epochs == 12 or (count == 200 and steps == 300 * 2)
    assert f"# at most: {steps:,} steps over {rows:,} training rows" in made.text
    assert teachers.epochs * -(-rows // 32) >= 190
    assert own.patience == 3 * own.check_every
    assert 12 <= own.epochs / own.check_every < 24


def test_a_teacher_that_reads_characters_is_trained_for_as_many_steps(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, reviews("非常好的商品我很喜欢", "质量太差不会再买了")), tmp_path)
    _, teachers = training_of(made)
    assert teachers.epochs * -(-120 // 32) >= 740
    assert teachers.patience == 3 * teachers.check_every


def test_a_folder_of_pictures_is_drafted_and_passes_check(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    for i in range(60):
        file = tmp_path / "goods" / ("bag", "shoe")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 4 * i).save(file)
    made = scaffold(tmp_path / "goods", tmp_path)
    assert (made.task, made.roles) == ("classify_image", {"picture": "picture", "label": "label"})
    assert "path: goods/" in made.text
    assert check(*parse(made.text), tmp_path) == []


@pytest.mark.parametrize(
    ("columns", "group"),
    [
        ({"product_id": 4, "seller": 20}, "product_id"),
        ({"product_id": 1, "seller": 6}, "seller"),  # one picture a product: nothing to keep together
        ({"商品编号": 4}, "商品编号"),
        ({"colour": 4}, None),
        ({"shop": 60}, None),  # too few for three parts
    ],
)
def test_pictures_of_one_product_or_seller_stay_in_one_part(
    tmp_path: Path, columns: dict[str, int], group: str | None
) -> None:
    pictures = []
    for i in range(240):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (i, 255 - i, 9)).save(file, "png")
        pictures.append(file.getvalue())
    held = {name: [f"n{i // each}" for i in range(240)] for name, each in columns.items()}
    held |= {"label": [("bag", "shoe")[i % 2] for i in range(240)]}
    pq.write_table(pa.table({"photo": pa.array(pictures, pa.binary()), **held}), tmp_path / "photos.parquet")
    made = scaffold(tmp_path / "photos.parquet", tmp_path, "classify_image")
    recipe, lines = parse(made.text)
    split = recipe.protocols[0].split
    assert (split.kind, split.by) == (("group", group) if group else ("random", None))
    assert check(recipe, lines, tmp_path) == []
