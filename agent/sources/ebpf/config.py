"""Settings of the eBPF source."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import pydantic
from pydantic import Field

from agent.model import Resource
from agent.sources.ebpf.pathfilter import PathFilter, ending
from agent.sources.ebpf.probes import ChosenGroup

_MEBIBYTE = 1024 * 1024

# Beginnings and endings of paths that are told, whoever opens them.  Endings name credentials, keys, what other
# programs are made to load, other processes' memory, models and their parts.
BEGINNINGS = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/secrets/", "/var/run/secrets")  # noqa: S108 - paths told
# What is written, removed, renamed or given to others is told in more places: where systems are configured and
# programs lie.
WRITTEN = (
    *("/etc/", "/var/log/", "/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/root/", "/boot/"),
    *("/var/spool/cron", "/proc/sys/", "/sys/kernel/", "/run/systemd/", "/dev/sd", "/dev/vd", "/dev/nvme", "/dev/dm-"),
)
ENDINGS = (
    *("/passwd", "/shadow", "/sudoers", "/gshadow", "/ld.so.preload", "/crontab", "authorized_keys", "/known_hosts"),
    *(".pem", ".key", ".p12", ".pfx", ".jks", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".kubeconfig"),
    *("kube/config", ".env", ".netrc", "/credentials", ".npmrc", ".pypirc", ".git-credentials", ".pgpass"),
    *("ker/config.json", ".ssh", ".aws", ".azure", "gcloud", ".oci", ".kube", ".gnupg", "credentials.db"),
    *("/token", ".htpasswd", "_history", ".bashrc", ".bash_profile", ".profile", "/mem", "/maps", "/environ"),
    *("/kcore", "/kmem", "/kallsyms", "release_agent", "core_pattern", "/modprobe"),
    *("sitecustomize.py", "ercustomize.py", "hooks/pre-commit", "/oom_score_adj"),
    *("/opasswd", "/shadow-", "_key", ".aws/config", "access_tokens.db", "credentials.json", ".vault-token"),
    *(".my.cnf", "gh/hosts.yml", "edentials.toml", "ials.tfrc.json", "/admin.conf", ".keytab", ".env.local"),
    *("logins.json", "/places.sqlite", "/Login Data", "docker.sock", "containerd.sock"),
    *(".safetensors", ".gguf", ".ggml", ".pt", ".ckpt", ".onnx", ".pkl", "_model.bin", ".h5", ".joblib", ".tflite"),
    *("tokenizer.json", "tokenizer.model", "ter_config.json"),
)


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"{value} is no power of two, as the kernel wants it; 16777216 is one")
    return value


RingBytes = Annotated[int, Field(le=1024 * _MEBIBYTE), pydantic.AfterValidator(_power_of_two)]


class Selector(pydantic.BaseModel):
    """Processes whose plaintext is read: every field that is given must fit.  Patterns know `*` and `?`.

    `labels` are the pod's, as its container runtime lists them.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    namespaces: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    binaries: tuple[str, ...] = ()

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Selector:
        if not (self.namespaces or self.pods or self.containers or self.labels or self.binaries):
            raise ValueError(
                'an empty selector would read everything; name namespaces, pods, labels or binaries ("*" is a pattern)'
            )
        return self

    @property
    def is_by_binary(self) -> bool:
        """Whether the path of the program decides alone."""
        return not (self.namespaces or self.pods or self.containers or self.labels)

    def fits(self, resource: Resource, binaries: Sequence[str]) -> bool:
        """Whether a process of this resource is selected that runs a program of these names (a script has two)."""
        return (
            _any_fits(self.namespaces, resource.namespace)
            and _any_fits(self.pods, resource.pod)
            and _any_fits(self.containers, resource.container)
            and all(
                key in resource.labels and fnmatchcase(resource.labels[key], value)
                for key, value in self.labels.items()
            )
            and any(_any_fits(self.binaries, binary) for binary in binaries)
        )


def _any_fits(patterns: tuple[str, ...], name: str) -> bool:
    """No pattern is no condition; a name that is not known fits none."""
    return not patterns or (bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns))


class PlaintextConfig(pydantic.BaseModel):
    """What is read of connections.  Nothing, unless `select` names whose.

    `http_ports` are ports of HTTP without TLS, such as 8000 or 11434; watching them costs every read and write on the
    node about 0.4 microseconds.  `message_bytes` is what is kept of one message and of one call of the TLS library;
    the rest is counted and marked.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    select: tuple[Selector, ...] = ()
    message_bytes: Annotated[int, Field(ge=16 * 1024, le=4 * _MEBIBYTE)] = _MEBIBYTE
    ring_bytes: Annotated[RingBytes, Field(ge=_MEBIBYTE)] = 64 * _MEBIBYTE
    connections: Annotated[int, Field(ge=16, le=65536)] = 4096
    idle_seconds: Annotated[float, Field(gt=0)] = 300.0
    http_ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(max_length=32)] = ()
    early_seconds: Annotated[float, Field(ge=0.05, le=60)] = 0.4


class EbpfConfig(pydantic.BaseModel):
    """`scope` names namespaces that are watched (patterns); without it everything on the node is, host processes too.

    `ring_bytes` is the kernel's buffer.  At 50 000 records of 150 bytes a second 8 MB hold one second, and a reader
    was kept off the CPU for half of one on a full node.  `runtime_socket` is containerd's or CRI-O's, which tells names
    and labels of pods; `auto` looks where they usually are, and an empty one asks nobody.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    groups: tuple[ChosenGroup, ...] = ("process", "files", "calls", "sockets", "volumes", "scope")
    scope: tuple[str, ...] = ()
    ring_bytes: Annotated[RingBytes, Field(ge=64 * 1024)] = 16 * _MEBIBYTE
    poll_seconds: Annotated[float, Field(ge=0.001, le=1)] = 0.01
    fold_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    path_beginnings: tuple[str, ...] = BEGINNINGS
    path_written: tuple[str, ...] = WRITTEN
    path_endings: tuple[str, ...] = ENDINGS
    is_realtime: bool = True
    runtime_socket: str = "auto"
    plaintext: PlaintextConfig = PlaintextConfig()

    @pydantic.field_validator("path_beginnings", "path_written", "path_endings")
    @classmethod
    def _are_short(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            ending(text)  # raises ValueError with what is wrong
        return texts

    @property
    def paths(self) -> PathFilter:
        return PathFilter(self.path_beginnings, self.path_written, self.path_endings)

    @property
    def reads_plaintext(self) -> bool:
        return bool(self.plaintext.select)
