"""Policies: documents in Kyverno's shape, compiled with every mistake at its line, judging masked events.  Pure."""

from agent.policy.compiled import CompiledRule, Compiler, digest_of
from agent.policy.document import KINDS, RuntimePolicy
from agent.policy.judge import PolicyJudge

__all__ = ["KINDS", "CompiledRule", "Compiler", "PolicyJudge", "RuntimePolicy", "digest_of"]
