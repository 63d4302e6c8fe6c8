"""What prompts there are, and what the servers answer to them.

Pure.  `answer.go` has the same rule for the server in Go; `matrix.py` holds both against each other.
Lengths are characters, that is Unicode code points.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

DEFAULT_TOKENS = 200
# What a reader of plaintext, of JSON, of events or of HTTP could trip over, among words that it could not.
ASCII = (
    *("please", "tell", "me", "why", "the", "invoice", "of", "Anna", "Bell", "was", "paid", "twice", "on", "Monday"),
    *(
        '"quoted"',
        "it's",
        "back\\slash",
        "\\u0041",
        "<b>&amp;</b>",
        '{"role": "user"}',
        "[DONE]",
        "%41",
        "a+b",
        "$HOME",
    ),
    *(
        "tab\t",
        "line\n",
        "event\n\ndata: {}\n\n",
        "dos\r\n",
        "0\r\n\r\n",
        "bell\x07",
        "\x7f",
        "   ",
        "4111 1111 1111 1112",
    ),
)
NOT_ASCII = (
    *("Grüße", "naïve", "España", "Ελλάδα", "Привет", "שלום", "مرحبا", "日本語", "한국어", "ไทย", "“quoted”", "€", "ﬁ"),
    *(
        "e\u0301",
        "\u00a0",
        "\u0085",
        "\u2028",
        "\u200d",
        "\ufeff",
        "\ufffd",
        "\uffff",
        "🙂",
        "👩‍👩‍👧",
        "𝒳",
        "\U0010ffff",
    ),
)


def prompts(count: int, size_characters: int, seed: int) -> list[str]:
    """So many distinct prompts of exactly this length, the same ones for the same arguments.

    A quarter of the words are not ASCII, so a prompt has about 1.5 bytes per character in UTF-8.  Raises
    ValueError for a size that does not hold what makes a prompt distinct (24 characters).
    """
    if size_characters < 24:
        raise ValueError(f"size_characters: {size_characters} is less than 24")
    chance = random.Random(f"{seed}/{size_characters}")
    return [_prompt(index, size_characters, seed, chance) for index in range(count)]


def _prompt(index: int, size: int, seed: int, chance: random.Random) -> str:
    weights = [3 / len(ASCII)] * len(ASCII) + [1 / len(NOT_ASCII)] * len(NOT_ASCII)
    text = f"{index}/{seed}: "[:24]
    while len(text) < size:
        text += " ".join(chance.choices((*ASCII, *NOT_ASCII), weights, k=1 + size // 4)) + " "
    return text[:size]


def expected_answer(prompt: str, max_tokens: int = DEFAULT_TOKENS) -> str:
    """What both servers answer: `max_tokens` characters, but only the head if the prompt is empty."""
    head = f"ANSWER {hashlib.sha256(prompt.encode()).hexdigest()} "
    room = max(0, max_tokens - len(head))
    repeated = prompt * (room // len(prompt) + 1) if prompt else ""
    return (head + repeated[:room])[:max_tokens]


def tokens_of(answer: str, prompt: str) -> Iterator[str]:
    """The pieces, of 1 to 5 characters, that the servers stream an answer in."""
    digest = hashlib.sha256(prompt.encode()).digest()
    start = number = 0
    while start < len(answer):
        size = 1 + digest[number % len(digest)] % 5
        yield answer[start : start + size]
        start, number = start + size, number + 1
