"""Bytes of a connection to HTTP exchanges, without a socket: HTTP/1.1, HTTP/2, gRPC framing and WebSocket.

Pure: whoever has seen the bytes (a TLS probe, a socket probe, a recording) feeds them to a `Conversation`.
"""

from agent.sources.exchanges.conversation import Conversation
from agent.sources.exchanges.exchange import Exchange, Heard, Limits, Trouble, Way

__all__ = ["Conversation", "Exchange", "Heard", "Limits", "Trouble", "Way"]
