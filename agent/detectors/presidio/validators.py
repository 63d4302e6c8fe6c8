"""Checks that a pattern cannot say: checksums and entropy.  One literal table of pure functions over a found value."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def shannon_bits(value: str) -> float:
    """Entropy in bits per character; 0 for an empty text."""
    size = len(value)
    if not size:
        return 0.0
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values())


def _digits(value: str) -> list[int]:
    return [int(character) for character in value if character in "0123456789"]


def luhn(value: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    digits = _digits(value)
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return bool(digits) and total % 10 == 0


# ISO 13616 registry: the length of an IBAN by country.
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE", "BI"), 16),
    **dict.fromkeys(("DK", "FO", "FI", "GL", "NL", "SD", "FK"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "XK", "LT", "LU", "MN"), 20),
    **dict.fromkeys(("HR", "LV", "LI", "CH"), 21),
    **dict.fromkeys(("BH", "BG", "CR", "GE", "DE", "IE", "ME", "RS", "GB", "VA"), 22),
    **dict.fromkeys(("TL", "GI", "IQ", "IL", "SO", "AE", "OM"), 23),
    **dict.fromkeys(("AD", "CZ", "MD", "PK", "RO", "SA", "SK", "ES", "SE", "TN", "VG"), 24),
    **dict.fromkeys(("LY", "PT", "ST"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "MR", "SM", "BF", "CI", "DJ", "MG", "ML", "SN"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "SV", "GT", "HU", "LB", "NI", "PL"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
    "LC": 32,
    "RU": 33,
}


def iban(value: str) -> bool:
    """ISO 13616: the country's length, and the number built of the rearranged text is 1 modulo 97."""
    compact = "".join(character for character in value.upper() if character in _BASE62)
    if len(compact) != _IBAN_LENGTHS.get(compact[:2]) or not compact[2:4].isdigit():
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def french_nir(value: str) -> bool:
    """INSEE number with its key: 97 less the number modulo 97; Corsica's 2A and 2B count as 19 and 18."""
    compact = "".join(character for character in value.upper() if character.isalnum())
    compact = compact.replace("2A", "19", 1) if compact[5:7] == "2A" else compact
    compact = compact.replace("2B", "18", 1) if compact[5:7] == "2B" else compact
    return len(compact) == 15 and compact.isdigit() and 97 - int(compact[:13]) % 97 == int(compact[13:])


def irish_ppsn(value: str) -> bool:
    """Revenue's modulus 23 check letter; a second letter A to I weighs 9, W weighs nothing."""
    compact = value.replace(" ", "").upper()
    total = sum(int(digit) * weight for digit, weight in zip(compact[:7], range(8, 1, -1), strict=True))
    if len(compact) == 9 and compact[8] != "W":
        total += 9 * (ord(compact[8]) - 64)
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == compact[7]


def belgian_national_number(value: str) -> bool:
    """97 less the first nine digits modulo 97; people born from 2000 count with a leading 2."""
    digits = "".join(map(str, _digits(value)))
    if len(digits) != 11:
        return False
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def dutch_bsn(value: str) -> bool:
    """The eleven test: weights 9 to 2 and -1."""
    digits = _digits(value)
    if len(digits) != 9 or not any(digits):
        return False
    return sum(digit * weight for digit, weight in zip(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True)) % 11 == 0


# Words that stand where a name would, and make it the name of a program, a role or nobody.
_NOBODY_WORDS = """
account admin administrator agent alert all analytics anonymous api app application assistant authority backend
bank batch bot build builder center chatgpt claude client cloud cluster colleagues company component config
container controller copilot core customer daemon data database default department deploy desk dev development
device dispatcher driver engine environment error everyone example failed failure file friend friends frontend
gateway group guest handler help hiring host inc integration internal job kernel library limited local logger
logon ltd madam manager master model module monitor name network node none not notification null operator order
organization payment pipeline platform plugin policy portal process production project provider proxy public
queue release report root router runner sales scheduler script security server service session sir software
staging storage student students support system task team temp template test tests there tool undefined unit
unknown update user users version view visitor volume watcher web windows worker workflow workspace world
"""
_NOBODY = frozenset(_NOBODY_WORDS.split())


def person_name(value: str) -> bool:
    """Not the name of software, a role or a placeholder; neither all capitals nor camel case."""
    words = value.replace("-", " ").split()
    if not words or any(word.lower().strip("'\u2019.") in _NOBODY for word in words):
        return False
    return not (value.isupper() and len(value) > 3) and not any(
        character.isupper() and before.islower() for word in words for before, character in itertools.pairwise(word[2:])
    )


def jwt(value: str) -> bool:
    """Whether the first part is a JOSE header: base64url of a JSON object with `alg`."""
    head = value.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


def github_checksum(value: str) -> bool:
    """GitHub's and npm's tokens end with the CRC32 of the part before, in six base-62 digits."""
    body, check = value.rpartition("_")[2][:-6], value[-6:]
    number = zlib.crc32(body.encode())
    encoded = ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        encoded = _BASE62[rest] + encoded
    return encoded == check


def not_placeholder(value: str) -> bool:
    """Not one of the words that stand where a password would: `changeme`, `<password>`, `${VAR}`, `xxxx`."""
    plain = value.strip("\"'").lower()
    if len(set(plain)) <= 2:
        return False
    words = ("password", "passwd", "secret", "changeme", "example", "redacted", "placeholder", "your_", "your-", "xxx")
    if any(word in plain for word in words):
        return False
    return not (plain.startswith(("$", "<", "{", "[", "%")) or plain in ("none", "null", "true", "false", "undefined"))


def url_password(value: str) -> bool:
    """Whether the password part of `scheme://user:password@host` is a real one."""
    credentials = value.partition("://")[2].rpartition("@")[0]
    return not_placeholder(credentials.partition(":")[2])


_TOKEN_NAMES = re.compile(r"[?&]([A-Za-z_-]*(?:token|key|sig|signature|secret))=([^&\s]*)", re.IGNORECASE)


def url_token(value: str) -> bool:
    """Whether a query parameter that is named like a key holds a real one."""
    return any(len(found) >= 8 and not_placeholder(found) for _, found in _TOKEN_NAMES.findall(value))


VALIDATORS: dict[str, Callable[[str], bool]] = {
    "belgian_national_number": belgian_national_number,
    "dutch_bsn": dutch_bsn,
    "french_nir": french_nir,
    "github_checksum": github_checksum,
    "iban": iban,
    "irish_ppsn": irish_ppsn,
    "jwt": jwt,
    "luhn": luhn,
    "not_placeholder": not_placeholder,
    "person_name": person_name,
    "url_password": url_password,
    "url_token": url_token,
}
