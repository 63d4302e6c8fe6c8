"""The command `reeve`: talks to people.  Results on standard output, talk on standard error; nothing below prints.

Exit codes: 0 good, 1 a finding or a fault, 2 a mistake in usage or configuration.
"""

from __future__ import annotations

from agent.cli.root import main

__all__ = ["main"]
