"""The image's bill of materials, as SPDX 2.3 JSON on standard output: Debian's packages and Python's distributions.

Runs in the image's build, inside what becomes the image, and names only what is there.  Two runs over the same contents
with the same `--created` say the same.  Format: https://spdx.github.io/spdx-spec/v2.3/
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import quote

Json: TypeAlias = dict[str, Any]
NAMESPACE = "https://reeve.dev/spdx"
# Expressions are taken as they are only if they are made of such words; free text is told as a comment.
_EXPRESSION = re.compile(r"[A-Za-z0-9.\-+]+( (AND|OR|WITH) [A-Za-z0-9.\-+]+)*")


class Part(NamedTuple):
    """One package: `url` is its package URL (purl), `licence` an SPDX expression or free text, `source` its source
    package in Debian."""

    kind: str
    name: str
    version: str
    url: str
    licence: str = ""
    source: str = ""
    supplier: str = ""

    @property
    def identifier(self) -> str:
        return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.\-]", "-", f"{self.kind}-{self.name}-{self.version}")


def debian(name: str, version: str, architecture: str, source: str = "") -> Part:
    """A package of Debian's."""
    url = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={architecture}&distro=debian-12"
    return Part("deb", name, version, url, source=source, supplier="Organization: Debian")


def debian_parts() -> list[Part]:
    """What dpkg says is installed here."""
    fields = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\n"
    command = ["dpkg-query", "-W", "-f", fields]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    rows = [line.split("\t") for line in said.splitlines()]
    return [debian(*row[1:]) for row in rows if row[0] == "installed"]


def unpacked_parts(path: Path) -> list[Part]:
    """Packages that were unpacked without dpkg: lines of name, version, architecture."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [debian(name, version, architecture, "linux") for name, version, architecture in rows]


def python_parts() -> list[Part]:
    """The distributions of this environment."""
    return [_python_part(one) for one in distributions(path=[path for path in sys.path if "site-packages" in path])]


def _python_part(distribution: Distribution) -> Part:
    metadata: Message = cast(Message, distribution.metadata)  # it is one, and the only name of `get`
    name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
    licence = metadata.get("License-Expression") or metadata.get("License") or ""
    return Part("pypi", name, distribution.version, f"pkg:pypi/{name}@{distribution.version}", licence.strip())


def package_of(part: Part) -> Json:
    """A package in the format's words."""
    is_expression = bool(part.licence) and _EXPRESSION.fullmatch(part.licence) is not None
    package: Json = {
        "SPDXID": part.identifier,
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.url}
        ],
    }
    if part.supplier:
        package["supplier"] = part.supplier
    if part.source:
        package["sourceInfo"] = f"built package from: {part.source}"
    if is_expression:
        package["licenseComments"] = f"declared by the distribution: {part.licence}"
    return package


def document_of(image: str, created: str, contents: list[Part]) -> Json:
    """The whole document; its namespace is told apart by its contents."""
    ordered = sorted(set(contents))
    digest = hashlib.sha256(repr(ordered).encode()).hexdigest()[:32]
    root = Part("image", image, "", f"pkg:oci/{image}")
    whole = {**package_of(root), "SPDXID": "SPDXRef-image", "primaryPackagePurpose": "CONTAINER"}
    del whole["versionInfo"]
    relationships = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")]
    relationships += [("SPDXRef-image", "CONTAINS", part.identifier) for part in ordered]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"reeve-{image}",
        "documentNamespace": f"{NAMESPACE}/{image}-{digest}",
        "creationInfo": {"created": created, "creators": ["Organization: Reeve", "Tool: reeve-sbom"]},
        "packages": [whole, *(package_of(part) for part in ordered)],
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in relationships
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The image's bill of materials, as SPDX 2.3 JSON.")
    parser.add_argument("--image", required=True, help="the image's name")
    parser.add_argument("--created", required=True, help="when, as 2026-11-23T10:00:00Z")
    parser.add_argument("--unpacked", type=Path, help="packages that dpkg does not know, a line each")
    chosen = parser.parse_args()
    contents = [*debian_parts(), *python_parts(), *(unpacked_parts(chosen.unpacked) if chosen.unpacked else ())]
    print(json.dumps(document_of(chosen.image, chosen.created, contents), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
