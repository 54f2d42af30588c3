"""Hides what looks like a credential, before text is kept where others read it: logs, the audit log, XCom, MLflow.

It goes by names ("password", "api_token") and by well-known forms: user and password in a URL, Authorization headers, private
keys in PEM (RFC 7468), JSON Web Tokens (RFC 7519), the tokens of AWS, GitHub, GitLab, Slack and Google. A secret in
another form under an innocent name is not recognised; nobody could.

Numbers are left alone: under such names they are counts and sizes (`token: 512`) far more often than secrets.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
_NAME = 200  # characters of a name that are looked at
PEM_LINES = 200  # of a private key; RSA with 16384 bits has as many

# Words of a vocabulary (`pad_token`), counts (`max_tokens`) and tokenizers are none.
_WORD = (r"passw(?:or)?d|passphrase|passcode|(?<![a-z])pwd|secret(?!ar)"
         r"|(?<!(?:pad|bos|eos|unk|sep|cls)_)(?<!mask_)token(?!s(?![a-z])|iz)"
         r"|(?:api|access|private|account)[_-]?key|credential")
# Names of what is about a secret and is none: `password_file`, `secretName`, `token_url`, `access_key_id`.
_NOT_ABOUT = r"(?<!file|path|name|type|size)(?<!url|env|ref|arn|len)(?<!id)(?<!count|limit|index)"
_TELLING = re.compile(rf"(?:(?:{_WORD}).*{_NOT_ABOUT}|(?:authorization|cookie))$", re.IGNORECASE | re.DOTALL)

_QUOTED = r"""[bru]{0,2}(?:"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?)"""
_ESCAPED = r"""\\{1,8}(?P<mark>["'])(?:(?!\\{1,8}(?P=mark)).)*(?:\\{1,8}(?P=mark))?"""
_IS = r"\s*(?:=>|:\s*\w+\s*=(?!=)|[=!:]?=|:|%3[ad])\s*"
_PEM = re.compile(r"(?P<begin>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----).*?"
                  r"(?P<end>-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)", re.DOTALL)
_PEM_BODY = re.compile(r"\s*(?:[A-Za-z0-9+/=]*|[A-Za-z-]+: .*)\s*")
_USER_INFO = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://)(?!git@)[^\s/'\"<>]+@")
_HEADER = re.compile(rf"(?P<name>(?:authorization|cookie)\\*['\"]?{_IS})(?P<value>{_QUOTED}|{_ESCAPED}|[^'\"\r\n]+)",
                     re.IGNORECASE)
_BEARER = re.compile(r"(?P<name>\bbearer\s+)(?P<value>[\w.~+/=-]{8,})", re.IGNORECASE)
# What ends in = may be base64 (RFC 4648), in which three letters of a name can stand by chance: nothing is assigned there.
_NO_PADDING = r"(?!=+(?:[\s'\",;&]|\Z))"
_ASSIGNED = re.compile(
    rf"(?P<name>(?:{_WORD}|signature)[\w-]{{0,40}}{_NOT_ABOUT}\\*['\"]?{_IS})"
    rf"(?P<value>{_QUOTED}|{_ESCAPED}|\*\*\*(?=[)\]}}])|{_NO_PADDING}[^\s'\",;&]+(?:{_QUOTED})?)", re.IGNORECASE)
_OPTION = re.compile(
    rf"(?P<name>--[\w-]{{0,40}}?(?:{_WORD})[\w-]{{0,40}}{_NOT_ABOUT}['\"]?,?\s+['\"]?)(?P<value>[^\s'\",-][^\s'\",]*)",
    re.IGNORECASE)
_QUERY = re.compile(r"(?P<name>[?&;](?:key|sig|sas|auth|jwt|code)=)(?P<value>[^&\s'\"#<>]+)", re.IGNORECASE)
_FORM = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|AIza[\w-]{35}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)")
_NAMED = (_HEADER, _BEARER, _ASSIGNED, _OPTION, _QUERY)
# Without one of these, in lower case, none of the above can be there, user and password in a URL aside. Most text has none,
# and to see that takes a few microseconds.
_HINTS = ("passw", "passphrase", "passcode", "pwd", "secret", "token", "key", "credential", "signature", "auth", "cookie",
          "bearer", "sig=", "sas=", "jwt=", "code=", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_", "glpat-",
          "xox", "aiza", "eyj")


def redact(text: str) -> str:
    """Give the text with what looks like a credential replaced by ***. Doing it twice changes nothing more."""
    if "://" in text:
        text = _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    if not any(map(text.lower().__contains__, _HINTS)):
        return text
    text = _PEM.sub(rf"\g<begin>{HIDDEN}\g<end>", text)
    for pattern in _NAMED:
        text = pattern.sub(_hide, text)
    return _FORM.sub(HIDDEN, text)


def is_telling(name: str) -> bool:
    """Whether a value under this name is a secret by its name."""
    # A long name costs its square, and what makes one telling stands at its ends.
    return _TELLING.search(name if len(name) <= _NAME else name[:_NAME // 2] + name[-_NAME // 2:]) is not None


def masked(value: Any, name: str = "") -> Any:
    """Give a JSON value with *** for texts under telling names, `name` being its own, and all other texts redacted.

    A telling name in `key` or `name` speaks for the `value` beside it, as in {"key": "api_token", "value": "..."}.
    """
    if isinstance(value, str):
        return HIDDEN if value and is_telling(name) else redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): masked(item, inner) for key, item, inner in _named_items(value, name)}
    if isinstance(value, list | tuple):
        return [masked(item, name) for item in value]
    return value


def secret_in(value: Any, name: str = "") -> str | None:
    """Give the place ('source.password') of the first text in a JSON value that `masked` would change; None: there is none."""
    return next((place for place, _ in _secrets(value, name, ())), None)


def secrets_of(value: Any) -> list[str]:
    """Give the texts in a JSON value that `masked` would change, each once."""
    return list(dict.fromkeys(text for _, text in _secrets(value, "", ())))


class LineRedactor:
    """Redacts text that comes line by line, so that a private key over several lines is hidden too."""

    def __init__(self) -> None:
        self._inside = 0

    def __call__(self, line: str) -> str | None:
        """Give the line as it may be shown; None for one of a private key, in whose first line *** stands for all."""
        if self._inside and "-----END" in line:
            self._inside = 0
            return None
        if self._inside and _PEM_BODY.fullmatch(line):
            self._inside -= 1
            return None
        shown = redact(line)
        self._inside = PEM_LINES if shown != line and _opens_key(line) else 0
        return shown


def _opens_key(line: str) -> bool:
    found = _PEM.search(line)
    return found is not None and not found["end"]


def _hide(match: re.Match[str]) -> str:
    """Keep the name and the quotes, so that a reader sees what was said."""
    value = match["value"]
    quoted = re.match(r"""(\w{0,2}\\*(["']))""", value)
    if quoted is None:
        return match["name"] + HIDDEN
    end = quoted[1].lstrip("bruBRU") if len(value) > len(quoted[1]) and value.endswith(quoted[2]) else ""
    return match["name"] + quoted[1] + HIDDEN + end


def _named_items(values: Mapping[Any, Any], name: str) -> Iterator[tuple[str, Any, str]]:
    """Keys and values with the name that speaks for each: a telling one outside speaks for all within."""
    label = next((said for key in ("key", "name") if isinstance(said := values.get(key), str)), "")
    for key, item in values.items():
        if is_telling(name):
            yield str(key), item, name
        else:
            yield str(key), item, label if key == "value" and is_telling(label) else str(key)


def _secrets(value: Any, name: str, place: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if masked(value, name) != value:
            yield ".".join(place) or name, value
    elif isinstance(value, Mapping):
        for key, item, inner in _named_items(value, name):
            shown = redact(key)
            if shown != key:
                yield ".".join((*place, shown)), key
            yield from _secrets(item, inner, (*place, shown))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _secrets(item, name, (*place, str(index)))
