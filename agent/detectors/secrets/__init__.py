"""Secrets: keys, tokens, private keys and connection strings, by the documents in `rules/secrets`."""

from agent.detectors.presidio.loading import recognizers_from
from agent.detectors.secrets.config import SecretsConfig
from agent.detectors.secrets.detector import SecretsDetector
from agent.plugins import Spec, Surroundings

FOLDER = "secrets"


def build(config: SecretsConfig, name: str, surroundings: Surroundings) -> SecretsDetector:
    del name
    return SecretsDetector(config, recognizers_from(surroundings.rules, FOLDER), surroundings.cache_dir)


SPEC = Spec(name="secrets", config=SecretsConfig, build=build)

__all__ = ["SPEC", "SecretsConfig", "SecretsDetector"]
