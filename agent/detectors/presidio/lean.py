"""Presidio without spaCy's weight and without the network.

Importing presidio-analyzer imports spaCy, which costs 60 MB of memory and about 0.6 s, although pattern recognisers
never call it (measured with Presidio 2.2.366: 138 MB resident with it, 78 MB without).  While Presidio is imported
here for the first time, `spacy` and its `thinc` are placeholders that satisfy imports, base classes and decorators and
nothing else; they are removed right after.  An image without either runs everything but the profile `presidio` and
models.

Two fetches are switched off: tldextract's of the public suffix list (its snapshot serves), and the default engine's of
a model (we never build the default engine).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import logging
import sys
import types
from collections.abc import Sequence
from typing import Any

_HEAVY = ("spacy", "thinc")

LANGUAGE = "en"
"""The one language all recognisers are registered under; which countries and words they know is their own."""


class _PlaceholderType(type):
    """A class whose attributes are such classes, and whose instance is a decorator that changes nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _PlaceholderType(name, (), {})

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return lambda decorated: decorated


class _PlaceholderModule(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - what the import system asks a package for

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _PlaceholderType(name, (), {"__module__": self.__name__})


class _PlaceholderFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname.partition(".")[0] not in _HEAVY:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _PlaceholderModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def load() -> None:
    """Import presidio-analyzer, once; later calls do nothing."""
    if "presidio_analyzer" in sys.modules:
        return
    finder = _PlaceholderFinder()
    is_lean = "spacy" not in sys.modules
    if is_lean:
        sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("presidio_analyzer")
        importlib.import_module("presidio_analyzer.predefined_recognizers")
    finally:
        if is_lean:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.partition(".")[0] in _HEAVY]:
                del sys.modules[name]
    _stay_offline()
    _stay_quiet()


def _stay_offline() -> None:
    import tldextract.tldextract as tld

    tld.TLD_EXTRACTOR = tld.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)


def _stay_quiet() -> None:
    """Presidio's own loggers print spans and, at debug level, text; nothing of it leaves through them."""
    logging.getLogger("presidio-analyzer").setLevel(logging.WARNING)
    logging.getLogger("presidio-analyzer").propagate = False
    decisions = logging.getLogger("decision_process")
    decisions.handlers.clear()
    decisions.propagate = False
