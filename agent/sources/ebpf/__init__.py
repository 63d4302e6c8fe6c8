"""Own eyes: eBPF probes for what processes do, and for what they say over TLS where that is switched on."""

from agent.plugins import Spec
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.source import EbpfSource, build

SPEC: Spec[EbpfSource] = Spec("ebpf", EbpfConfig, build)

__all__ = ["SPEC"]
