"""agent.sources.ebpf.examination: what is told of an agent's capabilities before a probe is tried."""

import pytest

from agent.sources.ebpf.examination import capability_checks

BITS = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_NICE": 23, "PERFMON": 38, "BPF": 39}


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (set(BITS), set()),
        (set(BITS) - {"SYS_PTRACE"}, {("SYS_PTRACE", "off")}),
        (set(BITS) - {"BPF", "PERFMON"}, set()),  # SYS_ADMIN stands for both, as before Linux 5.8
        (set(BITS) - {"SYS_ADMIN"}, {("SYS_ADMIN", "off")}),
        (set(BITS) - {"SYS_ADMIN", "BPF"}, {("SYS_ADMIN", "off"), ("BPF", "bad")}),
        (
            set(),
            {*((name, "off") for name in BITS if name not in ("BPF", "PERFMON")), ("BPF", "bad"), ("PERFMON", "bad")},
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(tmp_path, held, missing):
    status = tmp_path / "status"
    number = sum(1 << BITS[name] for name in held)
    status.write_text(f"Name:\tx\nCapInh:\t{0:016x}\nCapEff:\t{number:016x}\nSeccomp:\t2\n")
    checks = capability_checks(status)
    told = {(check.what.partition(" ")[0], check.state) for check in checks if check.state != "ok"}
    assert told == missing
    assert all(check.what.partition(" ")[0] in check.remedy for check in checks if check.state != "ok")
    assert bool(missing) != (checks[0].state == "ok")
