"""Views of training pictures that keep their label: crops, mirror images, colours, rectangles erased, random ops."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from limbeck.errors import UserError
from limbeck.made_pictures import kept_pictures, opened, seeded
from limbeck.picture import png
from limbeck.types import Array, Rows, fingerprint

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1


@dataclass(frozen=True)
class PictureViews:
    """Each picture as it is, and seen in other ways; every view has its picture's label and other columns.

    A view hangs on nothing but the seed, its row's id and its number, so what a teacher said of it is of that very
    view. Teacher, students and twins all train on the same ones.

    Args:
        views: of every row, beside the picture itself.
        seed: equal seeds make equal views.
        crop: share of the area that may be cut away, in [0, 1); what is left is scaled back to the picture's size.
        flip: mirror half of the views, left to right.
        colour: how far brightness, contrast, saturation and (a quarter as far) hue may move, in [0, 1]; of grey
            pictures, brightness and contrast.
        erase: share of the views from which a rectangle of a fiftieth to a third of the picture is taken, in [0, 1].
        operations: of RandAugment's fourteen (rotation, shear, posterising, ...) that are done to every view.
        strength: of those, 1 to 30.

    Source: Kornia's operators; Zhong et al. 2020 (random erasing); Cubuk et al. 2020 (RandAugment).
    """

    endings: ClassVar[tuple[str, ...]] = ()
    views: int = 1
    seed: int = 0
    crop: float = 0.0
    flip: bool = False
    colour: float = 0.0
    erase: float = 0.0
    operations: int = 0
    strength: int = 9

    def __post_init__(self) -> None:
        shares = (self.crop, self.colour, self.erase)
        if self.views < 1 or min(shares) < 0 or max(shares) > 1 or self.crop == 1:
            raise UserError(
                f"picture_views: views is {self.views}, crop {self.crop}, colour {self.colour} and erase {self.erase}; "
                "1 view or more, shares of 0 to 1, and a crop below 1 were wanted"
            )
        if self.operations < 0 or not 1 <= self.strength <= 30:
            raise UserError(
                f"picture_views: operations is {self.operations} and strength {self.strength}; 0 or more, and 1 to 30 "
                "were wanted"
            )
        if not (max(shares) > 0 or self.flip or self.operations):
            raise UserError(
                "picture_views: nothing is done to the views; name one at least of crop, flip, colour, erase and "
                "operations"
            )

    def augment(self, rows: Rows) -> Rows:
        """The rows, and behind them their views: same ids, the view's number from 1.

        Args:
            rows: training rows, with the role `picture`.

        Raises:
            BadPicture: a picture that cannot be read.
            MissingExtra: Kornia is not installed.
        """
        name = rows.role("picture")
        if rows.view is not None and rows.view.any():
            raise UserError("picture_views: these rows are views already; make them of the rows themselves")
        # Other versions of these libraries may round otherwise, and what is kept is told apart by the fingerprint.
        made_by = {library: version(library) for library in ("kornia", "torch")}
        source = fingerprint("picture views", VERSION, rows=rows.fingerprint, settings=asdict(self), by=made_by)
        originals, count = rows.table.column(name), len(rows)

        def made(place: int) -> bytes:
            view, row = place // count + 1, place % count
            return self.view(originals[row].as_py(), int(rows.id[row]), view)

        pictures = kept_pictures(source, count * self.views, made)
        seen = pa.concat_tables([rows.table] * self.views)
        where = rows.table.column_names.index(name)
        seen = seen.set_column(where, name, pictures.cast(rows.table.schema.field(name).type))
        numbers = np.arange(self.views + 1, dtype=np.int64).repeat(count)
        return replace(
            rows,
            table=pa.concat_tables([rows.table, seen]),
            id=np.tile(rows.id, self.views + 1),
            source=source,
            view=numbers,
        )

    def view(self, data: bytes, id: int, number: int) -> bytes:
        """One view of one picture, as PNG of the same size; grey where it was grey."""
        import torch

        pixels = opened(data)
        colour = pixels.shape[2] == 3
        picture = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).unsqueeze(0) / 255.0
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(seeded(self.seed, id, number))
            for operation in _operations(self, *pixels.shape[:2], colour=colour):
                picture = _applied(operation, picture)
        plain: Array = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy().transpose(1, 2, 0)
        return png(plain)


@lru_cache(maxsize=64)  # of pictures of one size, each view would take twice as long without it
def _operations(how: PictureViews, height: int, width: int, *, colour: bool) -> list[Any]:
    """Kornia's operators, none of which keeps anything between two pictures."""
    import kornia.augmentation as known
    from kornia.augmentation.auto import RandAugment

    found: list[Any] = []
    if how.crop:
        found.append(known.RandomResizedCrop((height, width), scale=(1 - how.crop, 1.0)))
    if how.flip:
        found.append(known.RandomHorizontalFlip(p=0.5))
    if how.operations:
        found.append(RandAugment(n=how.operations, m=how.strength))
    if how.colour:
        hue, saturation = (how.colour / 4, how.colour) if colour else (0.0, 0.0)
        found.append(known.ColorJiggle(how.colour, how.colour, saturation, hue, p=1.0))
    if how.erase:
        found.append(known.RandomErasing(p=how.erase))
    return found


def _applied(operation: Any, picture: Tensor) -> Tensor:
    """Kornia's colours are of three channels: a grey picture has them meanwhile."""
    grey = picture.shape[1] == 1
    done: Tensor = operation(picture.expand(-1, 3, -1, -1) if grey else picture)
    return done.mean(1, keepdim=True) if grey else done
