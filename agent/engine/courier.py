"""Events to a worker process of the same agent, and evaluations back, over a private socket pair.

`Sensitive` refuses to be pickled, so that raw text leaves the process only where someone has thought about it: here.
What is read was written by the same agent a moment ago; nothing else can reach the socket.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from agent.model import Sensitive


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return (Sensitive, (value.reveal(),)) if type(value) is Sensitive else NotImplemented


def packed(message: Any) -> bytes:
    """A message as octets."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(message)
    return buffer.getvalue()


def unpacked(octets: bytes) -> Any:
    """The message of octets that `packed` made."""
    return pickle.loads(octets)  # noqa: S301 - our own process wrote it
