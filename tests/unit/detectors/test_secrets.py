"""agent.detectors.secrets.config, .detector: keys and tokens."""

import pytest

from agent.detectors.presidio.loading import recognizers_from
from agent.detectors.secrets.config import SecretsConfig
from agent.detectors.secrets.detector import SecretsDetector


@pytest.fixture(scope="module")
def documents(rules):
    return recognizers_from([rules], "secrets")


@pytest.fixture(scope="module")
def detector(documents):
    return SecretsDetector(SecretsConfig(), documents)


def found(detector, text):
    return [(match.entity, text[match.start : match.end]) for match in detector.scan(text, "log").matches]


def test_at_least_forty_kinds_are_known(documents):
    assert len({document.supported_entity for document in documents}) >= 40


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-pipeline-step",
        "hf_hub_download from the hub",
        "password=changeme",
        "password: ${DB_PASSWORD}",
        'password = getpass("Password: ")',
        "postgres://user:<password>@host/db",
        "the secret of the api key rotation",
        "AKIAIOSFODNN7EXAMPLE",  # documented example
        "token: the next token is a comma",
        "Failed password for invalid user admin from 173.234.31.186",
        "eyJub3RqdXN0anNvbg.abcdefgh.abcdefghijkl",
        "-----BEGIN PUBLIC KEY-----",
        "https://example.com/search?q=token&page=2",
        "authorization: policy allowed the request",
    ],
)
def test_near_misses_are_not_reported(detector, text):
    assert found(detector, text) == []


def test_a_named_kind_beats_what_stands_around_it(detector):
    token = "ghp_" + "Q7rT2wXyZ9aBcD4eFgH1iJkL5mNoP8qRsT0u"
    assert found(detector, f"git clone https://x:{token}@github.com/acme/app") == [("GITHUB_TOKEN", token)]


def test_a_private_key_is_found_whole_and_cut(detector):
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90\n-----END RSA PRIVATE KEY-----"
    assert found(detector, f"x {key} y") == [("PRIVATE_KEY", key)]
    assert found(detector, key[:50]) == [("PRIVATE_KEY", key[:50])]


def test_only_the_value_is_the_secret(detector):
    assert found(detector, "DB_PASSWORD=vK9-qq71-Lxz0; next") == [("PASSWORD", "vK9-qq71-Lxz0")]
    assert found(detector, "password=Tr0ub4dor&3") == [("PASSWORD", "Tr0ub4dor&3")]
    assert found(detector, 'password: "abc)def#9Xy"') == [("PASSWORD", "abc)def#9Xy")]
    assert found(detector, "--password Tr0ub4dor3!") == [("PASSWORD", "Tr0ub4dor3!")]
    assert found(detector, '{"client_secret": "a8Kz77Qp01Lm4Rt6Yw2B"}') == [("GENERIC_SECRET", "a8Kz77Qp01Lm4Rt6Yw2B")]


def test_kinds_and_values_can_be_left_out(documents):
    text = "DB_PASSWORD=vK9-qq71-Lxz0"
    assert found(SecretsDetector(SecretsConfig(exclude_entities=("PASSWORD",)), documents), text) == []
    allowing = SecretsDetector(SecretsConfig(allow_list=("vK9-qq71-Lxz0",)), documents)
    assert found(allowing, text) == []
    assert allowing.rejected == {"allow_list": 1}
