"""Kept audit logs, one whole and six bad ones: `reeve audit verify` (agent.cli.audit) names the first bad record."""

import shutil

import pytest
from click.testing import CliRunner

from agent.cli.root import main
from tests.conftest import ROOT

KEPT = ROOT / "tests" / "data" / "audit"


def verify(name, *more):
    return CliRunner().invoke(main, ["audit", "verify", str(KEPT / name), *map(str, more)])


def test_a_whole_log_is_silent():
    result = verify("whole")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "flipped_bit",
            "audit log broken at record 2 (audit-000001.jsonl:2): its content does not match the hash that record 3",
        ),
        ("removed_record", "stands where record 5 belongs"),
        (
            "reordered_records",
            "audit log broken at record 1 (audit-000001.jsonl:1): record 2 stands where record 1 belongs",
        ),
        ("truncated_tail", "audit log broken at record 8"),
        ("wrong_key", "is not signed by this key"),
    ],
)
def test_bad_logs_are_told(name, said):
    result = verify(name)
    assert result.exit_code == 1
    assert said in result.output


def test_a_tail_cut_with_its_checkpoint_needs_one_kept_elsewhere():
    name = "truncated_with_its_checkpoint"
    assert verify(name).exit_code == 0
    result = verify(name, "--checkpoint", KEPT / name / "known.note")
    assert result.exit_code == 1
    assert "known checkpoint 1 was signed for 8 records, there are 7" in result.output


def test_the_right_key_does_not_save_a_log_signed_by_another():
    assert verify("whole", "--public-key", KEPT / "wrong_key" / "public.key").exit_code == 1


def copied(tmp_path):
    return shutil.copytree(KEPT / "whole", tmp_path / "log")


def test_removed_checkpoints_are_told(tmp_path):
    log = copied(tmp_path)
    (log / "checkpoints.jsonl").unlink()
    result = CliRunner().invoke(main, ["audit", "verify", str(log)])
    assert result.exit_code == 1
    assert "8 records and no checkpoint" in result.output


def test_a_part_that_was_set_aside_is_told(tmp_path):
    log = copied(tmp_path)
    (log / "damaged-001").mkdir()
    result = CliRunner().invoke(main, ["audit", "verify", str(log)])
    assert result.exit_code == 1
    assert "set aside as damaged-001" in result.output
