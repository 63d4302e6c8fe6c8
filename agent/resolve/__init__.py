"""Pure: who and what an event is about, from the events before it.  Stateful and bounded; time is the events' own."""

from agent.resolve.denials import DenialWindow
from agent.resolve.names import NameTable, without_search_domain
from agent.resolve.packets import RefusedPackets
from agent.resolve.resolver import Resolver

__all__ = ["DenialWindow", "NameTable", "RefusedPackets", "Resolver", "without_search_domain"]
