"""A first recipe for rows of one's own: looks at the columns, guesses, and says what it guessed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from limbeck import parts
from limbeck.draft import distinct, line
from limbeck.errors import UserError, counted
from limbeck.table import check_encoding, check_text, find_source, reader_for
from limbeck.task import Task
from limbeck.types import Rows

NAMES = {
    "user": (
        "user", "customer", "client", "member", "visitor", "buyer", "shopper", "session", "account", "household",
        "用户", "用戶", "顾客", "顧客", "客户", "会员", "會員", "买家", "買家", "访客", "账号", "账户", "昵称",
        "评论人", "评论者",
    ),
    "item": (
        "item", "product", "sku", "article", "goods", "asin", "movie", "film", "offer",
        "商品", "产品", "產品", "物品", "货品", "货号", "宝贝", "电影", "菜品", "图书", "店铺", "商家", "餐厅",
    ),
    "time": (
        "time", "timestamp", "date", "datetime", "at", "when", "day", "created", "ts", "ds", "week", "month",
        "时间", "時間", "时间戳", "日期", "时刻",
    ),
    "series": ("series", "unique_id", "序列"),
    "target": (
        "y", "demand", "sales", "sold", "quantity", "qty", "units", "volume", "target",
        "销量", "銷量", "需求", "销售量", "数量", "件数",
    ),
    "text": (
        "text", "review", "comment", "content", "body", "message", "description", "title", "sentence", "query",
        "评论", "評論", "评价", "評價", "评语", "評語", "点评", "內容", "内容", "文本", "正文", "留言", "反馈", "描述",
        "标题", "標題", "句子",
    ),
    "label": (
        "label", "class", "category", "sentiment", "target", "stars", "rating", "score", "polarity", "y",
        "click", "clicked", "purchase", "purchased", "bought", "converted", "conversion", "redeemed", "churned",
        "点击", "购买", "成交", "转化",
        "标签", "標籤", "类别", "類別", "分类", "分類", "情感", "评分", "評分", "打分", "得分", "星级", "星級", "极性",
        "评级", "等级", "等級", "满意度", "滿意度", "倾向", "类型", "類型", "评价", "評價",
    ),
    "amount": (
        "amount", "dollar", "spent", "spend", "paid", "payment", "revenue", "total", "value", "monetary",
        "金额", "金額", "实付", "實付", "消费", "消費", "总价", "總價",
    ),
    "picture": ("picture", "image", "photo", "img", "pic", "图片", "照片", "图像", "主图"),
    "weight": ("weight", "weights", "权重"),
    "split": ("split", "part", "fold", "划分", "拆分"),
    "id": ("id", "rowid", "uid", "index", "编号", "序号", "行号"),
}  # fmt: skip
"""Words that columns of a role are called by; Chinese ones stand within a name, without spaces around them."""

CHINESE = tuple(word for role, words in NAMES.items() if role != "id" for word in words if not word.isascii())
"""Without 编号 and the like, which stand behind what they number."""

_BESIDE = (
    "    # known: []        numbers that are known for dates to come too, such as prices and promotions",
    "    # static: []       what each series belongs to, such as shop and category",
)

CLASSES = 50
"""Different labels at most; more are no classes."""


@dataclass(frozen=True)
class Scaffold:
    """A recipe for a file.

    Args:
        text: YAML with comments.
        task: the question chosen.
        roles: role -> column, as given and guessed.
    """

    text: str
    task: str
    roles: dict[str, str]


def scaffold(
    file: Path,
    folder: Path,
    task: str | None = None,
    encoding: str = "utf-8",
    *,
    given: Mapping[str, str] | None = None,
) -> Scaffold:
    """Look at a file and write a recipe for it.

    Args:
        file: of rows, in any format that is read.
        folder: where the recipe will lie; a file inside it is named relatively.
        task: the question; by default the one that the columns answer.
        encoding: of a CSV file's text.
        given: role -> column, where a guess would fail; the other roles are guessed.

    Raises:
        UserError: the file cannot be read, its columns answer no question that is known here, or what is given
            does not fit them.
    """
    path = _named(file, folder)
    settings = _settings(path, folder, encoding)
    rows = parts.make("data", reader_for(path), {"path": path, **settings}).read(folder).rows
    roles = guess(rows, _there(given or {}, rows))
    fitting = _fitting(rows, roles)
    if task is None and not fitting:
        wanted = "; ".join(f"'{one.name}' needs {' and '.join(one.roles)}" for one in _drafted())
        raise UserError(
            f"the columns {', '.join(rows.names)} suggest no task ({wanted}; a label has 2 to {CLASSES} different "
            f"values, a text more than that, and here are {counted(len(rows), 'row')}); say which is which: "
            "--role NAME=COLUMN"
        )
    chosen = parts.get("tasks", task) if task else fitting[0]
    if chosen.draft is None:
        known = ", ".join(one.name for one in _drafted())
        raise UserError(f"init writes recipes for {known}; for '{task}' start from a recipe in recipes/")
    lacking = [role for role in chosen.roles if role not in roles]
    if lacking:
        raise UserError(
            f"no column of {path} looks like the role {' or '.join(map(repr, lacking))} of task '{chosen.name}'; "
            f"there are: {', '.join(rows.names)}. Say which one does: --role {lacking[0]}=COLUMN"
        )
    read = (*chosen.roles, *chosen.optional_roles, "id", "split")
    unread = [role for role in given or () if role not in read]
    if unread:
        raise UserError(f"task '{chosen.name}' has no use for the role '{unread[0]}'; it reads: {', '.join(read)}")
    used = {role: roles[role] for role in read if role in roles}
    lines = [
        f"# Written by `limbeck init {file.name}` from a look at its columns: guesses, to be read and mended.",
        *(f"# The columns answer '{one.name}' too: --task {one.name}" for one in fitting if one is not chosen),
        f"task: {chosen.name}",
        "data:",
        *(f"  {key}: {_yaml(value)}" for key, value in {"path": path, **settings}.items()),
        "  roles:",
        *(line(f"    {role}: {_yaml(column)}", _why(rows, column)) for role, column in used.items()),
        *_rest(rows, used, reads="features" in chosen.optional_roles),
        *(_BESIDE if "known" in chosen.optional_roles else ()),
        "",
        *chosen.draft(rows, used),
    ]
    return Scaffold("\n".join(line.rstrip() for line in lines) + "\n", chosen.name, used)


def _there(given: Mapping[str, str], rows: Rows) -> Mapping[str, str]:
    for role, column in given.items():
        if column not in rows.names:
            near = difflib.get_close_matches(column, rows.names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(rows.names)}"
            raise UserError(f"--role {role}={column}: there is no column '{column}'; {hint}")
    return given


def guess(rows: Rows, given: Mapping[str, str]) -> dict[str, str]:
    """Role -> column, by name first and by what a column holds; roles given, or brought by the rows, stay."""
    brought = {role: column for role, column in rows.roles.items() if isinstance(column, str)}
    roles = {**{role: column for role, column in brought.items() if column not in given.values()}, **given}
    for role in (
        "split",
        "id",
        "weight",
        "time",
        "series",
        "target",
        "user",
        "item",
        "label",
        "text",
        "picture",
        "amount",
    ):
        if role == "target" and "series" not in roles:  # its words are a label's too
            continue
        fitting = [name for name in rows.names if name not in roles.values() and FITS[role](rows, name)]
        named = [name for name in fitting if _calls(name, role)]
        if role in roles:
            continue
        if role == "text" and fitting:
            roles[role] = max(named or fitting, key=lambda name: _length(rows, name))
        elif role == "id":  # the whole name, for `user id` is no id of rows
            exact = [name for name in named if name.lower() in NAMES[role]]
            roles.update(zip([role], exact, strict=False))
        elif named:
            roles[role] = min(named, key=lambda name: _rank(role, name))
    return roles


def _rank(role: str, name: str) -> int:
    return min(NAMES[role].index(word) for word in _calls(name, role))


def _calls(name: str, role: str) -> set[str]:
    """The words of a column's name that a role is called by."""
    return {*_words(name), _last(name)} & set(NAMES[role])


def _last(name: str) -> str:
    """The Chinese word a name ends on, for that says what it is: 评论时间 is a time.

    >>> _last("评论时间"), _last("用户ID"), _last("price")
    ('时间', '用户', '')
    """
    held = [word for word in CHINESE if word in name]
    return max(held, key=lambda word: (name.rfind(word) + len(word), len(word)), default="")


def _words(name: str) -> set[str]:
    """`bought_at`, `customerId` -> their words.

    >>> sorted(_words("customerId"))
    ['customer', 'customerid', 'id']
    """
    spaced = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in name)
    words = spaced.lower().split()
    return {*words, *(word.rstrip("s") for word in words), name.lower()}


def _type(rows: Rows, name: str) -> pa.DataType:
    return rows.table.schema.field(name).type


def _is_text(rows: Rows, name: str) -> bool:
    return pa.types.is_string(_type(rows, name)) or pa.types.is_large_string(_type(rows, name))


def _whole(rows: Rows, name: str) -> bool:
    return bool(rows.table.column(name).null_count == 0) and not pa.types.is_nested(_type(rows, name))


def _length(rows: Rows, name: str) -> float:
    """Mean bytes of a text: a Chinese character says as much as half a word, and has three."""
    return float(pc.mean(pc.binary_length(rows.table.column(name))).as_py() or 0.0)


def _fits_text(rows: Rows, name: str) -> bool:
    return _is_text(rows, name) and _length(rows, name) > 8 and distinct(rows, name) > CLASSES


def _fits_label(rows: Rows, name: str) -> bool:
    return _whole(rows, name) and not pa.types.is_temporal(_type(rows, name)) and 2 <= distinct(rows, name) <= CLASSES


def _fits_name(rows: Rows, name: str) -> bool:
    """Names users or items: whole numbers or text, and fewer of them than rows."""
    kind = _type(rows, name)
    return _whole(rows, name) and (pa.types.is_integer(kind) or _is_text(rows, name)) and distinct(rows, name) >= 2


def _fits_time(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return _whole(rows, name) and (
        pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def _fits_target(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _fits_id(rows: Rows, name: str) -> bool:
    return _whole(rows, name) and pa.types.is_integer(_type(rows, name)) and distinct(rows, name) == len(rows)


def _fits_weight(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return _whole(rows, name) and (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_binary(rows: Rows, name: str) -> bool:
    return pa.types.is_binary(_type(rows, name)) or pa.types.is_large_binary(_type(rows, name))


def _fits_split(rows: Rows, name: str) -> bool:
    if not _is_text(rows, name) or distinct(rows, name) > 4:
        return False
    said = set(pc.unique(rows.table.column(name)).to_pylist()) - {None, ""}
    return {"train", "test"} <= said <= {"train", "validation", "test"}


FITS: dict[str, Callable[[Rows, str], bool]] = {
    "user": _fits_name, "item": _fits_name, "time": _fits_time, "text": _fits_text, "label": _fits_label,
    "weight": _fits_weight, "split": _fits_split, "id": _fits_id, "series": _fits_name, "target": _fits_target,
    "picture": _is_binary, "amount": _fits_target,
}  # fmt: skip


def _fitting(rows: Rows, roles: dict[str, str]) -> list[Task]:
    """The tasks whose roles are all there: first those that looked at the rows, then those that need most roles."""
    there = [task for task in _drafted() if set(task.roles) <= set(roles)]
    fitting = [task for task in there if task.fits is None or task.fits(rows, roles)]
    return sorted(fitting, key=lambda task: (task.fits is None, -len(task.roles)))


def _drafted() -> list[Task]:
    return [task for task in (parts.get("tasks", name) for name in parts.names("tasks")) if task.draft is not None]


def _named(file: Path, folder: Path) -> str:
    """As the recipe names the file: from its own folder where the file lies inside; a folder ends in `/`."""
    inside = file.resolve().is_relative_to(folder.resolve())
    name = str(file.resolve().relative_to(folder.resolve()) if inside else file.resolve())
    return f"{name}/" if file.is_dir() else name


def _settings(path: str, folder: Path, encoding: str) -> dict[str, str]:
    """What a reader must be told: of a CSV, its encoding and what stands between its cells."""
    told = {} if check_encoding(encoding) == "utf-8" else {"encoding": encoding}
    file = find_source(path, folder)
    if reader_for(path) != "csv":
        if told:
            raise UserError(f"{path} is read as the UTF-8 that its format has; only a CSV has another encoding")
        return {}
    check_text(file, encoding)
    with file.open(encoding=encoding if told else "utf-8-sig") as opened:
        header = opened.readline()
    found = max(",;\t|", key=header.count)
    if found == "," or found not in header or path.lower().endswith(".tsv"):
        return told
    return {**told, "delimiter": found}


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("\n...\n").strip()
    )


def _why(rows: Rows, column: str) -> str:
    if _is_binary(rows, column):
        return f"pictures, {len(rows):,} of them"
    kind = "text" if _is_text(rows, column) else str(_type(rows, column))
    return f"{kind}, {distinct(rows, column):,} different in {len(rows):,} rows"


def _rest(rows: Rows, used: dict[str, str], *, reads: bool) -> Iterator[str]:
    left = [name for name in rows.names if name not in used.values()]
    if left and reads:
        yield line(f"    features: {_yaml(left)}", "what is known beforehand; all others stay unread")
        yield line("    # privileged: []", "columns that are known only afterwards: a teacher may read them")
    elif left:
        yield f"    # not used: {', '.join(left)}"
