"""Adapters that make events.  Each is a folder of one shape: `config`, `source` (I/O), `decode` (pure)."""
