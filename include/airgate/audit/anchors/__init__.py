"""Anchors: places outside the audit database's reach where signed checkpoints are kept.

Whoever rules the database can rewrite the log and, with the key, sign it anew. He cannot also change what others hold. Every
place keeps a checkpoint as a file `<size in 20 digits>.note`, so an outsider copies a folder, clones a repository or syncs a
bucket and hands the verifier a folder. Keep an anchor's credentials away from those who rule the database: that is its worth.
"""

import re
from collections.abc import Callable

from airgate.audit.anchors.base import Anchor, AnchorError
from airgate.audit.anchors.directory import DirectoryAnchor
from airgate.audit.anchors.git import GitAnchor
from airgate.audit.anchors.s3 import S3Anchor
from airgate.audit.anchors.timestamp import TimestampAnchor
from airgate.audit.anchors.url import SETTING, AnchorUrl, read_url
from airgate.errors import ConfigError

__all__ = ["Anchor", "AnchorError", "open_anchors"]

_KINDS: dict[str, Callable[[AnchorUrl], Anchor]] = {
    "file": DirectoryAnchor.of,
    "git+file": GitAnchor.of,
    "s3": S3Anchor.of,
    "tsa+http": TimestampAnchor.of,
    "tsa+https": TimestampAnchor.of,
}


def open_anchors(text: str) -> list[Anchor]:
    """Give the anchors that the setting AIRGATE_AUDIT_ANCHORS names: URLs separated by commas or whitespace.

    `file:///FOLDER`, `git+file:///CLONE[?remote=origin&branch=main]`,
    `s3://BUCKET/PREFIX[?retain_days=3650&mode=COMPLIANCE&endpoint=URL&region=NAME]`,
    `tsa+https://HOST/PATH?certificates=/path/to/ca.pem`. Nothing is opened or contacted yet.
    Raises ConfigError for a URL that cannot serve, or the same place twice.
    """
    anchors: dict[str, Anchor] = {}
    for number, entry in enumerate(filter(None, re.split(r"[\s,]+", text)), start=1):
        url = read_url(entry, number, _KINDS)
        if url.name in anchors:
            raise ConfigError(f"{SETTING}: {url.name} stands there twice; name each place once")
        anchors[url.name] = _KINDS[url.scheme](url)
    return list(anchors.values())
