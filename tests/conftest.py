"""What tests share: the shipped rules and policies, and recorded data where it is at hand."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long examples take to make, or to run, says something of the machine and nothing of the code.
settings.register_profile("reeve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("reeve")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def log_as_never_configured() -> Iterator[None]:
    """What one test sets of the process's log (a level, say) must not decide what the next one sees."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def rules() -> Path:
    return ROOT / "rules"


@pytest.fixture(scope="session")
def policies() -> Path:
    return ROOT / "policies"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recorded data beside the checkout; tests that want it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no recorded data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def recordings(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked recordings of LLM telemetry and logs."""
    target = tmp_path_factory.mktemp("recordings")
    with tarfile.open(shared / "llm" / "recordings.tar.xz") as archive:
        # Debian 12's Python 3.11.2 has no extraction filters yet.
        archive.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return target
