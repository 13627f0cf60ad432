import pytest

from limbeck.cache import cache_folder


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    """A cache of its own, which looks at the archives that were downloaded before."""
    downloads = cache_folder("downloads")
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        (folder / "downloads").symlink_to(downloads)
        patch.setenv("LIMBECK_CACHE", str(folder))
        yield
