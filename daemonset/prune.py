"""Take out of the image's virtual environment what the agent never imports, and say what and why.

Runs in the image's build, with the environment's own interpreter, before anything is compiled.  Distributions go whole;
parts of one go only where the package itself does not import them.  tests/e2e/test_image.py uses what stays.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sysconfig
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

AGENT = "reeve-agent"
# Required by others, and not wanted here.
SPACY = (
    "spacy",
    "numpy",
)  # the profile `presidio` and models: 100 MB with what they need; Presidio alone imports neither
ASYNCHRONOUS = ("aiohttp", "aiohttp-retry")  # for kubernetes.aio, which goes as well
# Never imported: patterns below site-packages.
PARTS = (
    "kubernetes/aio",
    "kubernetes/client/api/[!_]*.py",  # typed calls and models, loaded by name; agent/cluster asks for JSON
    "kubernetes/client/models/[!_]*.py",
    "phonenumbers/carrierdata",
    "phonenumbers/geodata",  # place names of numbers
    "phonenumbers/tzdata",
    "cel_expr_python/ext/ext_bindings*",
    "cel_expr_python/ext/ext_encoders*",
    "cel_expr_python/ext/ext_optional*",
    "cel_expr_python/ext/ext_proto*",
    "pygments/lexers/[!_]*.py",  # rich shows tracebacks, of Python
    "zstandard/_cffi*",  # the backend of PyPy
    "zstandard/backend_cffi.py",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/include",
    "numpy/_core/lib",
    "blis/benchmark.py",
)
KEPT = {"pygments/lexers/python.py", "pygments/lexers/special.py"}
# What builds and type checkers read, and tests; but the agent's own programs in C are compiled on the node.
SUFFIXES = (".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx")
TESTED = ("blis", "cymem", "elftools", "murmurhash", "numpy", "preshed", "spacy", "srsly", "thinc", "tldextract")


def name_of(distribution: Distribution) -> str:
    """The normalised name (PyPA name normalisation)."""
    return re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()


def reached(installed: dict[str, Distribution], unwanted: Collection[str]) -> set[str]:
    """The agent and what it requires, directly or not, going through nothing that is unwanted."""
    waiting, found = [AGENT], set[str]()
    while waiting:
        name = waiting.pop()
        if name in found or name in unwanted or name not in installed:
            continue
        found.add(name)
        for line in installed[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(re.sub(r"[-_.]+", "-", requirement.name).lower())
    return found


def remove(distribution: Distribution, site: Path) -> None:
    """All files of a distribution, its entry points, and the directories that are empty afterwards."""
    files = [Path(str(distribution.locate_file(file))).resolve() for file in distribution.files or ()]
    for path in files:
        path.unlink(missing_ok=True)
    for folder in sorted({parent for path in files for parent in path.parents}, key=lambda one: -len(one.parts)):
        if folder.is_relative_to(site) and folder != site and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def parts(site: Path) -> Iterator[Path]:
    """Files and directories of the distributions that stay."""
    for pattern in PARTS:
        yield from (path for path in site.glob(pattern) if str(path.relative_to(site)) not in KEPT)
    for package in TESTED:
        yield from (path for path in (site / package).rglob("tests") if path.is_dir())
    yield from (
        path
        for path in site.rglob("*")
        if path.suffix in SUFFIXES and path.is_file() and not path.is_relative_to(site / "agent")
    )


def size_of(folder: Path) -> int:
    """Bytes in all files of a directory."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep-spacy", action="store_true", help="for the profile `presidio` and for models")
    keeps_spacy = bool(parser.parse_args().keep_spacy)
    site = Path(sysconfig.get_path("purelib")).resolve()
    before = size_of(site)
    installed = {name_of(one): one for one in distributions(path=[str(site)])}
    kept = reached(installed, {*ASYNCHRONOUS, *(() if keeps_spacy else SPACY)})
    for name in sorted(installed.keys() - kept):
        remove(installed[name], site)
    for path in list(parts(site)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    removed = " ".join(sorted(installed.keys() - kept))
    print(f"{before // 10**6} MB, now {size_of(site) // 10**6} MB. Left out: {removed}")  # noqa: T201


if __name__ == "__main__":
    main()
