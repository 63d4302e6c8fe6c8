"""Messages with `{{ expression }}` in them: each placeholder is CEL, checked when the policy loads."""

from __future__ import annotations

import re

from agent.policy.cel import Binding, CelEnvironment, CelError, Expression
from agent.policy.vocabulary import PlainPath

_PLACEHOLDER = re.compile(r"\{\{\s*(.+?)\s*\}\}", re.DOTALL)
# Kyverno's own limit for a message expression's text is 5 KiB; a report's message is cut at 512 characters.
LIMIT_CHARACTERS = 512


class Template:
    """Text parts and expressions in turn."""

    def __init__(self, text: str, environment: CelEnvironment) -> None:
        """Raises CelError if a placeholder is no expression over the vocabulary."""
        self._environment = environment
        self._parts: list[str | Expression | PlainPath] = []
        done = 0
        for match in _PLACEHOLDER.finditer(text):
            expression = environment.compile(match[1], "any")
            # Most placeholders only name a field: that needs no CEL.
            self._parts += (text[done : match.start()], environment.plain_path(match[1]) or expression)
            done = match.end()
        self._parts.append(text[done:])

    def render(self, binding: Binding) -> str:
        """The message; a placeholder that errs shows `?`."""
        shown = "".join(part if isinstance(part, str) else self._shown(part, binding) for part in self._parts)
        return shown if len(shown) <= LIMIT_CHARACTERS else shown[: LIMIT_CHARACTERS - 3] + "..."

    def _shown(self, part: Expression | PlainPath, binding: Binding) -> str:
        try:
            value = self._environment.value(part, binding) if isinstance(part, Expression) else binding.read(part)
        except CelError:
            return "?"
        if isinstance(value, (list, tuple)):
            return ", ".join(dict.fromkeys(str(item) for item in value)) or "none"
        return str(value)
