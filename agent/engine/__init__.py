"""`evaluate(event)`: pure.  Texts are found, flattened, scanned, masked; then the event is judged."""

from agent.engine.cache import ScanCache
from agent.engine.contracts import Detector, EventDetector, Judge, Scan, TextDetector, by_kind
from agent.engine.evaluate import Engine
from agent.engine.fingerprint import KEY_BYTES, fingerprint
from agent.engine.flatten import Flat, flatten
from agent.engine.mask import masked
from agent.engine.texts import texts_of, with_texts

__all__ = [
    "KEY_BYTES",
    "Detector",
    "Engine",
    "EventDetector",
    "Flat",
    "Judge",
    "Scan",
    "ScanCache",
    "TextDetector",
    "by_kind",
    "fingerprint",
    "flatten",
    "masked",
    "texts_of",
    "with_texts",
]
