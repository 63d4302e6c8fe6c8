"""One form for each address, so that what one observer saw is found by what another told."""

from __future__ import annotations

_MAPPED = "::ffff:"


def plain_address(address: str) -> str:
    """An IPv4 address that a dual-stack socket shows as IPv6, as IPv4; anything else as it is."""
    if address[:7].lower() == _MAPPED and "." in address:
        return address[len(_MAPPED) :]
    return address
