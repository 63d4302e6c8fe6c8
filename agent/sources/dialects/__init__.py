"""HTTP exchanges to GenAI operations: which API it is, whose words stand where, how much was used.

Pure.  Providers differ in names, not in kind: one walk over the JSON finds the words and whose they are, one table
knows the hosts and paths.
"""

from agent.sources.dialects.reading import operations_of

__all__ = ["operations_of"]
