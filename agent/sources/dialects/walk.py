"""Whose words stand where in a request's or an answer's JSON.

All APIs nest turns that name a role, and parts in them; the walk keeps the nearest role above a text.  Everything that
is not known to be no text is told: user ids, tags and metadata leak as well as messages do.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from agent.sources.dialects.vocabulary import (
    FREE_IN_CALLS,
    FREE_IN_RESULTS,
    KEY_ROLES,
    NO_TEXT,
    RESULT_KEYS,
    ROLES,
    TYPE_ROLES,
    Whose,
    is_identifier,
    is_media,
    is_of_person,
    well_formed,
)

_DEPTH = 40
_NESTED_BYTES = 1024 * 1024
_DISCRIMINATORS = ("type", "event_type", "index", "output_index", "content_index", "contentBlockIndex", "item_id")
# What the request said, told back.
_ECHOED = re.compile(
    r"response\.(?:created|in_progress|queued)|session\.updated|conversation\.item\.(?:created|added|done)"
)
# Ends and beginnings of streamed parts: what they hold was mostly told in parts before.
_REPEATED = re.compile(
    r"response\.(?:.*\.done|done|completed|incomplete|failed|output_item\.added)|stream-end"
    r"|conversation\.item\.input_audio_transcription\.completed"
)
_SOUND = re.compile(r"response\.(?:output_)?audio\.delta")


class Said(msgspec.Struct):
    """A text and whose it is; `path` tells parts of one text in a stream, and is short whatever the names were."""

    role: Whose
    path: str
    text: str


class _Place(NamedTuple):
    """Where a text stands.  `mark` is a hash of all names above it: the names themselves would outgrow the body."""

    role: Whose
    mark: int = 0
    key: str = ""
    is_free: bool = False  # inside of what a tool was asked or said: names tell nothing


class _Leaf(NamedTuple):
    place: _Place
    text: str


def walk(value: Any, role: Whose) -> list[Said]:
    """Every text of a JSON value in order; `role` is whose words they are where nothing says more."""
    found: list[Said] = []
    _tell(value, _Place(role), found, _DEPTH)
    return found


def joined(events: list[Any], role: Whose) -> list[Said]:
    """The texts of streamed JSON events: parts with the same place in their events are one text.

    What a stream tells again at its end is told only if it was not told before.
    """
    together: dict[tuple[Whose, int, bool], list[str]] = {}
    late: list[Any] = []
    for event in _without_tokens(events):
        kind = _kind(event)
        if _REPEATED.fullmatch(kind):
            late.append(_outcome(event))
        elif not _ECHOED.fullmatch(kind) and not _SOUND.fullmatch(kind):
            for place, text in _leaves(event, _Place(role), _DEPTH):
                if place.is_free or (place.key.lower() not in NO_TEXT and not is_identifier(place.key)):
                    together.setdefault((place.role, place.mark, place.is_free), []).append(text)
    said: list[Said] = []
    for (whose, mark, is_free), pieces in together.items():
        _tell("".join(pieces), _Place(whose, mark, "", is_free), said, _DEPTH)
    told = {one.text for one in said}
    for event in late:
        for one in walk(event, role):
            if one.text not in told:
                told.add(one.text)
                said.append(one)
    return said


def nested_json(text: str) -> Any:
    """The value of a text that is a JSON object or array; None if it is none."""
    start = text[:64].lstrip()[:1]
    if start not in ("{", "[") or len(text) > _NESTED_BYTES:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if value and isinstance(value, (dict, list)) else None


def _leaves(value: Any, place: _Place, depth: int) -> list[_Leaf]:
    found: list[_Leaf] = []
    _descend(value, place, found, depth)
    return found


def _descend(value: Any, place: _Place, found: list[_Leaf], depth: int) -> None:
    if isinstance(value, str):
        if value:
            found.append(_Leaf(place, value))
    elif isinstance(value, dict) and depth:
        role = place.role if place.is_free else _role_of(value, place.role)
        mark = hash((place.mark, _marks(value)))
        kind = value.get("type")
        for name, inner in value.items():
            own = _own_role(kind, name.lower(), inner) if not place.is_free else None
            whose = own or role
            is_free = place.is_free or _is_free(name.lower(), whose)
            _descend(inner, _Place(whose, hash((mark, name)), name, is_free), found, depth - 1)
    elif isinstance(value, list) and depth:
        if len(value) > 16 and all(isinstance(one, (int, float)) for one in value[:16]):
            return  # tokens or a vector
        for position, inner in enumerate(value):
            has_index = isinstance(inner, dict) and isinstance(inner.get("index"), int)
            _descend(inner, place._replace(mark=hash((place.mark, -1 if has_index else position))), found, depth - 1)


def _marks(value: dict[str, Any]) -> tuple[tuple[str, str | int], ...]:
    """What tells parts of one text from those of another at the same place."""
    has_index = isinstance(value.get("index"), int) and "token" not in value
    # TGI counts its tokens in `index`; OpenAI tells a part's `type` only where the part begins.
    left_out = "type" if has_index else "index"
    return tuple(
        (name, value[name])
        for name in _DISCRIMINATORS
        if name != left_out and isinstance(value.get(name), (str, int)) and not isinstance(value[name], bool)
    )


def _role_of(value: dict[str, Any], role: Whose) -> Whose:
    named = value.get("role")
    if isinstance(named, str) and (own := ROLES.get(named.lower())):
        role = own
    kind = value.get("type")
    return TYPE_ROLES.get(kind, role) if isinstance(kind, str) else role


def _own_role(kind: Any, key: str, inner: Any) -> Whose | None:
    """Whose what stands under a key is, if the key says so."""
    if isinstance(kind, str) and (kind, key) in RESULT_KEYS:
        return "tool"
    own = KEY_ROLES.get(key)
    return None if own == "user" and not isinstance(inner, (str, list)) else own


def _is_free(key: str, role: Whose) -> bool:
    return (role == "call" and key in FREE_IN_CALLS) or (role == "tool" and key in FREE_IN_RESULTS)


def _tell(value: Any, place: _Place, found: list[Said], depth: int) -> None:
    """Note the texts of a value, those of JSON in its strings decoded."""
    for leaf in _leaves(value, place, depth):
        whose = leaf.place.role
        if not _is_text(leaf):
            continue
        nested = nested_json(leaf.text) if depth else None
        inner: list[Said] = []
        if nested is not None:
            # Its texts, decoded, are what people would call the text; its own names add nothing.
            is_free = leaf.place.is_free or whose in ("call", "tool")
            _tell(nested, leaf.place._replace(is_free=is_free), inner, depth // 2)
        found += inner or [Said(whose, f"{leaf.place.mark:x}", well_formed(leaf.text))]


def _is_text(leaf: _Leaf) -> bool:
    key, text = leaf.place.key, leaf.text
    if not text.strip() or is_media(text):
        return False
    if leaf.place.is_free:
        return True
    # An identifier is a text only if it says more than a random name does.
    is_told = not is_identifier(key) or is_of_person(key) or "@" in text or " " in text
    return is_told and key.lower() not in NO_TEXT


def _without_tokens(events: list[Any]) -> list[Any]:
    """TGI tells each token and at the end the whole text: the tokens are left out once it came."""
    if not any(isinstance(event, dict) and isinstance(event.get("generated_text"), str) for event in events):
        return events
    return [
        {name: inner for name, inner in event.items() if name != "token"} if isinstance(event, dict) else event
        for event in events
    ]


def _kind(event: Any) -> str:
    kind = (event.get("type") or event.get("event_type")) if isinstance(event, dict) else ""
    return kind if isinstance(kind, str) else ""


def _outcome(event: dict[str, Any]) -> Any:
    """A stream's end without the request that it repeats."""
    response = event.get("response")
    if _kind(event).startswith("response.") and isinstance(response, dict):
        return {name: response[name] for name in ("output", "error") if name in response}
    if isinstance(response, dict):
        return {**event, "response": {name: inner for name, inner in response.items() if name != "chat_history"}}
    return event
