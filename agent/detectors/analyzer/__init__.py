"""Presidio's findings at stream speed: its recognisers, read at start and run behind one prefilter."""

from agent.detectors.analyzer.analyzer import Analysis, Analyzer, Options

__all__ = ["Analysis", "Analyzer", "Options"]
