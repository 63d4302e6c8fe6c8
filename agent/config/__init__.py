"""YAML to typed documents; every mistake with its file and line."""

from agent.config.problem import Problem, Problems, suggestion
from agent.config.settings import CanarySettings, Settings
from agent.config.yamlfile import Document, DocumentPath, dotted, parse, read, read_text, typed

__all__ = [
    "CanarySettings",
    "Document",
    "DocumentPath",
    "Problem",
    "Problems",
    "Settings",
    "dotted",
    "parse",
    "read",
    "read_text",
    "suggestion",
    "typed",
]
