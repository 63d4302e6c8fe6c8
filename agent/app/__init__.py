"""Puts the parts together: settings to an agent that runs, a replay, a scan, a check."""
