"""Adapters that hand evaluations on.  They see masked evaluations only."""
