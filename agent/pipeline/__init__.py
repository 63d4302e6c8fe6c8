"""asyncio; no network, never opens a body.  Read `contracts.py` first, then `line.py`."""

from agent.pipeline.channel import Channel, Parcel, Port, WhenFull
from agent.pipeline.contracts import Batch, Output, Receipt, Sink, SinkUnavailable, Source
from agent.pipeline.delivery import Delivery, RetryPolicy
from agent.pipeline.ledger import Account, Ledger, SinkAccount
from agent.pipeline.line import Answer, BatchEvaluator, Evaluator, Line, LineSettings, Observer

__all__ = [
    "Account",
    "Answer",
    "Batch",
    "BatchEvaluator",
    "Channel",
    "Delivery",
    "Evaluator",
    "Ledger",
    "Line",
    "LineSettings",
    "Observer",
    "Output",
    "Parcel",
    "Port",
    "Receipt",
    "RetryPolicy",
    "Sink",
    "SinkAccount",
    "SinkUnavailable",
    "Source",
    "WhenFull",
]
