"""agent.sources.ebpf beside 35 attacks of Atomic Red Team: what they are about is told, with default settings."""

import asyncio
import os
from pathlib import Path

import attacks
import pytest

from agent.sources.ebpf import bcc

ROOT = Path(__file__).resolve().parents[2]

ATOMICS = ROOT.parent / "shared" / "data" / "attacks" / "atomics-dev.json"

# bcc warns at every name that is given to it as str.
pytestmark = pytest.mark.filterwarnings("ignore:not a bytes object")


@pytest.fixture(scope="module")
def findings():
    if not ATOMICS.exists():
        pytest.skip(f"the attacks are not at hand: {ATOMICS}")
    if os.geteuid() != 0:
        pytest.skip("BPF programs and namespaces need root")
    try:
        bcc.version()
    except bcc.BpfError as error:
        pytest.skip(str(error))
    return asyncio.run(attacks.run_all(attacks.atomics_of(ATOMICS)))


def test_what_an_attack_is_about_is_told(findings):
    print("\n" + attacks.table(findings))
    unseen = [finding.atomic.id for finding in findings if not finding.is_seen]
    assert len(unseen) <= 0.05 * len(findings), unseen


def test_what_a_kernel_saw_is_told(findings):
    found, possible = attacks.share(findings)
    print(f"\n{found} of {possible} observed entries were told")
    assert found >= 0.95 * possible, attacks.table(findings)
