"""Personal data: Presidio's recognisers, and the documents in `rules/pii`."""

from agent.detectors.pii.config import PiiConfig
from agent.detectors.pii.detector import PiiDetector
from agent.detectors.presidio.loading import recognizers_from
from agent.plugins import Spec, Surroundings

FOLDER = "pii"


def build(config: PiiConfig, name: str, surroundings: Surroundings) -> PiiDetector:
    del name
    return PiiDetector(config, recognizers_from(surroundings.rules, FOLDER), surroundings.cache_dir)


SPEC = Spec(name="pii", config=PiiConfig, build=build)

__all__ = ["SPEC", "PiiConfig", "PiiDetector"]
