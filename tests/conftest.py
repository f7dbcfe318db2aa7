import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of what is tested.
settings.register_profile("koner", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("koner")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """The folder of real KLUE sentences; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("KONER_SHARED", root.parent / "shared"))
    if not (folder / "klue-ner").is_dir():
        pytest.skip(f"needs the real KLUE sentences, and {folder} has none (set KONER_SHARED)")
    return folder
