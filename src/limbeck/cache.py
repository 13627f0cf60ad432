"""The folder of things that can be made again: converted rows and unpacked packs."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from limbeck.errors import UserError


def cache_folder(*inside: str) -> Path:
    """A folder of the cache, made if need be: `LIMBECK_CACHE`, or the user's own cache folder.

    Raises:
        UserError: it cannot be made.
    """
    named = os.environ.get("LIMBECK_CACHE")
    folder = (Path(named) if named else user_cache_path("limbeck")).joinpath(*inside)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as wrong:
        raise UserError(
            f"the cache folder cannot be made ({wrong}); set LIMBECK_CACHE to a folder you can write"
        ) from wrong
    return folder
