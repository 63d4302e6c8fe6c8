"""What the import rules cannot say about the house."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.root import main
from agent.telemetry import METRICS

ROOT = Path(__file__).resolve().parents[1]
AGENT = ROOT / "agent"
MODULES = sorted(path for path in AGENT.rglob("*.py") if "_pb" not in path.parts)
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Each heavy library, and the one place that may import it.
DOORS = {
    "presidio_analyzer": "agent/detectors/",
    "cel_expr_python": "agent/policy/cel.py",
    "google.protobuf": (
        "agent/policy/vocabulary.py",
        "agent/sources/tetragon/",
        "agent/sources/hubble/",
        "agent/sources/ebpf/runtime.py",
    ),
    "agent._pb": ("agent/sources/tetragon/", "agent/sources/hubble/", "agent/sources/ebpf/runtime.py"),
    "kubernetes": "agent/cluster/client.py",
    "bcc": "agent/sources/ebpf/bcc.py",
    "urllib3": ("agent/cluster/client.py", "agent/sinks/http.py", "agent/sinks/deadline.py"),
    "grpc": "agent/sources/rpc/grpcio.py",
    "hpack": ("agent/sources/rpc/http2/call.py", "agent/sources/exchanges/http2.py"),
    "hyperframe": "agent/sources/exchanges/http2.py",
    "h11": "agent/sources/exchanges/http1.py",
    "wsproto": "agent/sources/exchanges/websocket.py",
    "brotli": "agent/sources/exchanges/encodings.py",
    "zstandard": "agent/sources/exchanges/encodings.py",
    "elftools": "agent/sources/ebpf/elf.py",
    "capstone": "agent/sources/ebpf/elf.py",
    "prometheus_client": ("agent/telemetry/", "agent/app/running.py"),
    "watchfiles": ("agent/sources/containerlogs/source.py", "agent/app/reload.py"),
    "yaml": ("agent/config/yamlfile.py", "agent/reports/writing.py", "agent/cli/demo.py", "agent/cli/resources.py"),
    "rich": "agent/cli/",
    "click": "agent/cli/",
    "cryptography": ("agent/audit/", "agent/sinks/audit/directory.py"),
    "sqlite3": "agent/sources/containerlogs/store.py",
    "phonenumbers": ("agent/detectors/pii/phone.py", "agent/detectors/analyzer/phones.py"),
    "tldextract": "agent/detectors/presidio/lean.py",
    "hyperscan": "agent/detectors/analyzer/prefilter.py",
    "re2": "agent/detectors/analyzer/linear.py",
    "spacy": "agent/detectors/analyzer/tokens.py",
}
# Who may look at raw text: detectors get it from the engine's evaluate, nobody else asks.
# `courier.py` carries it to a worker process of the same agent; `resolver.py` reads the names of DNS lookups.
REVEALERS = {
    "agent/engine/evaluate.py",
    "agent/engine/courier.py",
    "agent/model/sensitive.py",
    "agent/resolve/resolver.py",
}
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|common|manager|handler|processor)(_|$)")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield relative(path), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("library", DOORS)
def test_each_heavy_library_has_one_door(library: str) -> None:
    allowed = DOORS[library]
    doors = (allowed,) if isinstance(allowed, str) else allowed
    users = {
        name for name, tree in trees() for one in imported(tree) if one == library or one.startswith(library + ".")
    }
    assert not [name for name in users if not name.startswith(doors)]


def test_only_the_engine_reveals_raw_text() -> None:
    callers = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("reveal", "_text")
    }
    assert callers - REVEALERS <= {
        "agent/detectors/analyzer/window.py",
    }  # their own attributes of that name


def test_only_the_cli_prints_or_exits() -> None:
    printing = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in ("print", "exit", "quit"))
            or (
                isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func) in ("sys.exit", "os._exit", "click.echo")
            )
        )
    }
    assert not [name for name in printing if not name.startswith("agent/cli/")]


def test_files_are_short() -> None:
    long = {relative(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) >= 400}
    assert not long


def test_names_say_what_they_are() -> None:
    assert not [relative(path) for path in MODULES if FORBIDDEN_NAMES.search(path.stem)]


def test_every_module_says_what_lives_in_it() -> None:
    assert not [name for name, tree in trees() if not ast.get_docstring(tree) and (ROOT / name).read_text().strip()]


def test_every_public_class_and_function_of_the_contracts_is_explained() -> None:
    rooms = ("agent/model/", "agent/engine/contracts", "agent/pipeline/contracts", "agent/audit/")
    silent = [
        f"{name}:{node.name}"
        for name, tree in trees()
        if name.startswith(rooms)
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_every_module_is_named_by_a_test() -> None:
    tested = "\n".join(path.read_text(encoding="utf-8") for path in TESTS)
    missing = []
    for path in MODULES:
        if path.name in ("__init__.py", "__main__.py"):
            continue
        dotted = relative(path).removesuffix(".py").replace("/", ".")
        room, _, module = dotted.rpartition(".")
        is_named = dotted in tested or (room in tested and re.search(rf"\.{module}\b", tested) is not None)
        if not is_named:
            missing.append(dotted)
    assert not missing


def test_every_metric_is_documented() -> None:
    documented = (AGENT / "telemetry" / "README.md").read_text(encoding="utf-8")
    shown = {f"{row.name}_total" if row.kind == "counter" else row.name for row in METRICS}
    assert {name for name in shown if f"`{name}`" not in documented} == set()
    assert set(re.findall(r"`(reeve_[a-z_]+)`", documented)) == shown


def test_every_command_is_documented_with_an_example() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    import click

    context = click.Context(main)
    for name in main.list_commands(context):
        assert f"reeve {name}" in readme, name
        command = main.get_command(context, name)
        assert command is not None
        children = command.commands.values() if isinstance(command, click.Group) else [command]
        for child in children:
            assert "Example" in (child.help or "") or child.name == "list", f"{name} {child.name}"


def test_every_rule_and_policy_has_its_cases_beside_it() -> None:
    documents = [*(ROOT / "rules").rglob("*.yaml"), *(ROOT / "policies").rglob("*.yaml")]
    named = {path for path in documents if not path.name.endswith(".test.yaml")}
    missing = {path for path in named if not path.with_name(path.stem + ".test.yaml").exists()}
    assert not missing


def test_no_path_of_a_machine_stands_in_the_tree() -> None:
    word = "/" + "work" + "/"
    files = [
        path
        for folder in ("agent", "rules", "policies", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*")
    ]
    holding = [relative(path) for path in files if path.is_file() and word.encode() in path.read_bytes()]
    assert not holding


def test_only_one_type_of_settings_touches_the_environment() -> None:
    users = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert users <= {"agent/sources/ebpf/bcc.py"}  # bcc's own variable, which it reads itself
