"""Plug-ins that find things.  `pii` and `secrets` are both Presidio recognisers; `presidio` is the one door to it."""
