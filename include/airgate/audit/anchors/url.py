"""The URLs that name anchors, read so that neither a message nor a name ever shows a password."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from airgate.errors import ConfigError, nearest

SETTING = "AIRGATE_AUDIT_ANCHORS"
NAME_LIMIT = 200
_IN_PATH = "/:@!$&'()*+,;="
_SCHEME = re.compile(r"([a-z0-9][a-z0-9+.-]{0,30})://", re.IGNORECASE)


@dataclass(frozen=True)
class AnchorUrl:
    """One URL in its parts. `place` and `name` are safe to show; `user` and `password` are decoded, and never shown."""

    scheme: str
    host: str
    path: str
    name: str
    options: dict[str, str]
    user: str = ""
    password: str = ""

    def folder(self) -> Path:
        """Give the local path of a URL of the form scheme:///path. Raises ConfigError when it is none."""
        if self.host not in ("", "localhost"):
            raise self.error(f"names the machine '{self.host}'; a path has three slashes: {self.scheme}:///PATH")
        path = Path(self.path)
        if ".." in path.parts or "\0" in self.path or path == Path("/"):
            raise self.error(f"has no usable path; write the absolute path of a folder, without '..': {self.scheme}:///PATH")
        return path

    def allow(self, options: Collection[str], *, login: bool = False) -> None:
        """Raise ConfigError for an option that is not allowed, or for a user and password where none belong."""
        for option in self.options:
            if option not in options:
                raise self.error(f"has the option '{option[:40]}'; {nearest(option, options)}")
        if (self.user or self.password) and not login:
            raise self.error("has a user or password, which do not belong in this URL; give them to the program by its own "
                             "settings, and write an '@' of the path as %40")

    def address(self) -> str:
        """Give the web address of a URL of the form PREFIX+https://HOST/PATH, without user and password."""
        return f"{self.scheme.rpartition('+')[2]}://{self.host}{quote(self.path or '/', safe=_IN_PATH)}"

    def error(self, text: str) -> ConfigError:
        """Make the error that names this anchor."""
        return ConfigError(f"{SETTING}: {self.name} {text}")


def read_url(text: str, number: int, schemes: Collection[str]) -> AnchorUrl:
    """Read entry `number` (from 1) of the setting. Raises ConfigError without showing what may be a password."""
    where = f"{SETTING}: entry {number}"
    match = _SCHEME.match(text)
    if not match:
        hint = f" A path is written file://{text}" if text.startswith("/") and "@" not in text else ""
        raise ConfigError(f"{where} is no URL; allowed schemes: {', '.join(sorted(schemes))}.{hint} A comma or a space in a URL "
                          "is written %2C or %20")
    scheme = match[1].lower()
    if scheme not in schemes:
        raise ConfigError(f"{where} has the scheme '{scheme}'; {nearest(scheme, schemes)}")
    try:
        return _parts(scheme, text[match.end():])
    except ValueError:
        raise ConfigError(f"{where} ({scheme}) cannot be read. Write {scheme}://HOST/PATH?NAME=VALUE, each option once, and in "
                          "user and password %40 for '@', %2F for '/', %3F for '?', %23 for '#', %2C for a comma") from None


def _parts(scheme: str, rest: str) -> AnchorUrl:
    place, _, query = rest.partition("?")
    # Up to the last '@' all may be a password. A path without a host in front of it has none.
    login, at, place = ("", "", place) if place.startswith("/") else place.rpartition("@")
    user, _, password = login.partition(":")
    parts = urlsplit(f"//{place}")
    _ = parts.port  # raises ValueError for a port that is no number
    if not place.isprintable() or (at and not user) or "/" in login or "@" in login or parts.fragment or "#" in query:
        raise ValueError
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    options = dict(pairs)
    if len(options) < len(pairs) or not all(options.values()):
        raise ValueError
    return AnchorUrl(scheme, parts.netloc, unquote(parts.path, errors="strict"), _short(f"{scheme}://{place}"), options,
                     unquote(user), unquote(password))


def _short(name: str) -> str:
    """Cut a name that a column does not hold; two names stay two."""
    return name if len(name) <= NAME_LIMIT else f"{name[:NAME_LIMIT - 17]}~{sha256(name.encode()).hexdigest()[:16]}"
