"""How tasks name files: `mien-file://ID/NAME`, which is true for ever and on every host name."""

import re

SCHEME = "mien-file://"
_ID = re.compile(SCHEME + "([a-z0-9]{26})/")


def files_named(json: str | None) -> frozenset[str]:
    """Ids of all files that JSON text names: a few too many where a text only quotes such a name, never too few."""
    return frozenset(_ID.findall(json)) if json and SCHEME in json else frozenset()
