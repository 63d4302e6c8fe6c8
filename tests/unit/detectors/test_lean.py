"""agent.detectors.presidio.lean: the agent finds what it finds without spaCy and its libraries, as in its image."""

import subprocess
import sys

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("spacy", "thinc", "numpy", "blis", "srsly", "preshed", "cymem", "murmurhash"):
            raise ImportError(f"{name} is not in the image")
sys.meta_path.insert(0, Blocked())
sys.argv = ["reeve", "scan", "--json", "-"]
from agent.cli import main
main()
"""


def test_nothing_of_spacy_is_needed():
    text = "mail jane.doe@acme.com card 4111 1111 1111 1111\n"
    done = subprocess.run([sys.executable, "-c", BLOCKED], input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert '"EMAIL_ADDRESS"' in done.stdout
    assert '"CREDIT_CARD"' in done.stdout
    assert "spacy" not in done.stderr
