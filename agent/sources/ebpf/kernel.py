"""The kernel's side: the programs loaded and attached, the ring, the counters, the sets of processes."""

from __future__ import annotations

from agent.sources.ebpf.accounting import Accounting
from agent.sources.ebpf.bcc import BpfError, Programs
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.probes import PLAIN_PROBES, PROBES, Group, Probe
from agent.sources.ebpf.program_text import Wanted, text_of
from agent.sources.ebpf.ring import Ring
from agent.sources.ebpf.stacks import Point
from agent.sources.ebpf.tracefs import has, mount_tracefs


class Kernel:
    """Loaded once, closed once.  `on` and `off` tell which probes stand, and why others do not."""

    def __init__(self, config: EbpfConfig) -> None:
        self._config = config
        self._programs: Programs | None = None
        self.on: list[Probe] = []
        self.off: list[tuple[Probe, str]] = []
        self._ring: Ring | None = None
        self.accounting = Accounting(lambda slot: self.programs.slot("counters", slot))

    @property
    def programs(self) -> Programs:
        assert self._programs is not None, "loaded before it is used"
        return self._programs

    @property
    def ring(self) -> Ring:
        assert self._ring is not None, "loaded before it is used"
        return self._ring

    @property
    def ring_bytes(self) -> int:
        config = self._config
        return max(config.ring_bytes, config.plaintext.ring_bytes) if config.reads_plaintext else config.ring_bytes

    def load(self) -> None:
        """Compile and attach.  Raises BpfError if nothing at all can stand here."""
        if not mount_tracefs():
            raise BpfError(
                "tracefs is not mounted and cannot be. Run as root, with /sys/kernel/tracing in the container."
            )
        config = self._config
        groups: set[Group] = {"process", "scope", *config.groups}
        wanted = Wanted(
            groups,
            self.ring_bytes,
            config.paths,
            is_scoped=bool(config.scope),
            plaintext=config.reads_plaintext,
            message_bytes=config.plaintext.message_bytes,
            plain_ports=config.plaintext.http_ports,
        )
        self._programs = Programs(text_of(wanted))
        probes = [probe for probe in PROBES if probe.group in groups]
        if config.reads_plaintext and config.plaintext.http_ports:
            probes += PLAIN_PROBES
        for probe in probes:
            self._attach(probe)
        if not any(probe.tracepoint == "sched:sched_process_exec" for probe in self.on):
            reason = next((why for probe, why in self.off if probe.tracepoint == "sched:sched_process_exec"), "?")
            raise BpfError(f"the probe of programs that start cannot stand ({reason}). Is this process privileged?")
        self._ring = Ring(self.programs.map_descriptor("events"), self.ring_bytes)

    def _attach(self, probe: Probe) -> None:
        if not has(probe.tracepoint):
            if not probe.is_legacy:
                self.off.append((probe, "this kernel has no such tracepoint"))
            return
        try:
            self.programs.attach_tracepoint(probe.tracepoint, probe.function)
            self.on.append(probe)
        except BpfError as error:
            self.off.append((probe, str(error)))

    def stand(self, path: str, point: Point) -> int:
        """A probe in a file; what `fall` takes to end it.  Raises BpfError."""
        return self.programs.attach_uprobe(path, point.function, offset=point.offset, is_return=point.is_return)

    def fall(self, event: int) -> None:
        self.programs.detach_uprobe(event)

    def read_content_of(self, pid: int, *, is_wanted: bool) -> None:
        """Whether a process's plaintext is read from now on; its children inherit it."""
        if is_wanted:
            self.programs.mark("content", pid)
        else:
            self.programs.unmark("content", pid)

    def listens(self, pid: int, descriptor: int) -> None:
        """A process that is read has a listener on one of the plain ports since before the probes stood."""
        self.programs.mark_descriptor("plain_listeners", pid, descriptor)

    def looks_at_relative(self, pid: int, *, is_wanted: bool) -> None:
        """Whether relative paths of a process and its children are told, too."""
        if is_wanted:
            self.programs.mark("stands_near", pid)
        else:
            self.programs.unmark("stands_near", pid)

    def decide_path(self, path: bytes, *, is_wanted: bool) -> None:
        """Whether processes that start this program are read, from their first instruction on."""
        self.programs.decide("wanted", fnv1a(path), is_wanted=is_wanted)

    def leave_out(self, pid: int) -> None:
        """Tell nothing of a process and its children any more."""
        self.programs.mark("ignored", pid)

    def detach(self) -> None:
        """Let no probe write any more; what was written can still be read."""
        self.programs.detach()

    def abandon_ring(self) -> None:
        """Somebody reads it still: it is not closed."""
        self._ring = None

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._programs is not None:
            self._programs.close()
            self._programs = None


def fnv1a(text: bytes) -> int:
    """The 64-bit FNV-1a hash, as programs/process.c makes it."""
    value = 0xCBF29CE484222325
    for byte in text:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
