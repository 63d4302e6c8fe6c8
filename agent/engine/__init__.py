"""`evaluate(event)`: pure.  Texts are found, flattened, scanned, masked; then the event is judged."""

from agent.engine.cache import ScanCache
from agent.engine.contracts import EventDetector, Judge, Scan, TextDetector
from agent.engine.evaluate import Engine
from agent.engine.fingerprint import KEY_BYTES, fingerprint
from agent.engine.flatten import Flat, flatten
from agent.engine.mask import masked
from agent.engine.stream import TextScan, TextStream
from agent.engine.texts import texts_of, with_texts

__all__ = [
    "KEY_BYTES",
    "Engine",
    "EventDetector",
    "Flat",
    "Judge",
    "Scan",
    "ScanCache",
    "TextDetector",
    "TextScan",
    "TextStream",
    "fingerprint",
    "flatten",
    "masked",
    "texts_of",
    "with_texts",
]
