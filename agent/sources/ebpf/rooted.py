"""A path as a container sees it, to the file it is: links are followed inside of its root and never out of it.

An image decides where its links point.  Followed from here, one could lead to any file or device of the node.
"""

from __future__ import annotations

import os

_MOST_LINKS = 40


def rooted(root: str, path: str) -> str:
    """The file's path below `root`; nothing if it is not there, or if its links have no end.  No root is our own."""
    if not root:
        return path
    left = [part for part in path.split("/") if part]
    done: list[str] = []
    links = 0
    while left:
        part = left.pop(0)
        if part in (".", ""):
            continue
        if part == "..":
            done[-1:] = []
            continue
        here = "/".join([root, *done, part])
        try:
            target = os.readlink(here)
        except OSError:
            done.append(part)  # no link, or not there: whoever opens it finds out
            continue
        links += 1
        if links > _MOST_LINKS:
            return ""
        if target.startswith("/"):
            done = []
        left = [one for one in target.split("/") if one] + left
    return "/".join([root, *done])
