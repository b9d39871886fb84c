"""Where the real files are, which stay outside the repository, and how properties are tested."""

from pathlib import Path

import pytest
from hypothesis import settings

from leray.data.preparation import Prepared

# The same examples every time; the first call of a compiled loop takes seconds, so no deadline.
settings.register_profile("leray", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("leray")

MONTH = 30 * 86_400.0


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """``../shared/data`` beside the repository; tests of real files skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def locomo(shared_data: Path) -> Prepared:
    """LoCoMo's blocks with τ = 30 days; embeddings from the usual cache, so computed once ever."""
    from leray.data.embeddings import embed
    from leray.data.encoders import find_encoder
    from leray.data.locomo import load_locomo
    from leray.data.preparation import ask, prepare

    corpus, encoder = load_locomo(shared_data / "locomo"), find_encoder()
    return prepare(ask(corpus), corpus, lambda texts: embed(texts, encoder=encoder), (MONTH,))
