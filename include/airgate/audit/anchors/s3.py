"""An S3 bucket with Object Lock as an anchor: in COMPLIANCE mode nobody, its owner included, removes a version before its day.

Credentials and region come as boto3 finds them (environment, shared files, the pod's role), never in the URL. The role needs
s3:GetBucketObjectLockConfiguration, ListBucketVersions, GetObject, GetObjectVersion, GetObjectRetention, PutObject and
PutObjectRetention, and no right to delete. The lock guards versions, not names: a later version hides the first from those who
do not ask for it. What was locked is the first, so that is what we read; `aws s3api list-object-versions` shows it to all.
"""

# boto3 has no types.

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from airgate.audit.anchors.base import NOTE_LIMIT, AnchorError, file_name, refuse_length, refuse_other, size_of
from airgate.audit.anchors.url import AnchorUrl
from airgate.errors import nearest

MODES = ("COMPLIANCE", "GOVERNANCE")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")  # If-None-Match: somebody was, or is, first


class _Version(NamedTuple):
    note: bytes
    mode: str | None
    until: datetime | None


class S3Anchor:
    """One object a checkpoint, locked when it is made, and never made over another."""

    def __init__(
        self, name: str, bucket: str, prefix: str = "", *, retain_days: int = 3650, mode: str = "COMPLIANCE",
        endpoint: str | None = None, region: str | None = None, timeout: float = 20.0,
    ) -> None:
        """`retain_days`: how long a checkpoint stays locked. `timeout` in seconds: for connecting and for each answer."""
        self.name = name
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._retain, self._mode = timedelta(days=retain_days), mode
        self._endpoint, self._region, self._timeout = endpoint, region, timeout
        self._made: tuple[int, Any] | None = None

    @classmethod
    def of(cls, url: AnchorUrl) -> Self:
        """Take `s3://bucket/prefix?retain_days=3650&mode=COMPLIANCE&endpoint=http://...&region=...`. Raises ConfigError."""
        url.allow(("retain_days", "mode", "endpoint", "region"))
        days, mode = url.options.get("retain_days", "3650"), url.options.get("mode", "COMPLIANCE")
        endpoint = url.options.get("endpoint")
        if not _BUCKET.fullmatch(url.host):
            raise url.error("names no bucket; write s3://BUCKET/PREFIX; its name has 3 to 63 of a-z, 0-9, '-' and '.'")
        if any(part in (".", "..") for part in url.path.split("/")) or not url.path.isprintable():
            raise url.error("has a prefix with '.', '..' or unprintable characters; write it as in "
                            "s3://BUCKET/airgate/audit")
        if not re.fullmatch(r"[1-9][0-9]{0,4}", days) or int(days) > 36500:
            raise url.error(f"has retain_days={days[:20]}; allowed: 1 to 36500")
        if mode not in MODES:
            raise url.error(f"has the mode '{mode[:20]}'; {nearest(mode.upper(), MODES)}")
        if endpoint and not re.fullmatch(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?", endpoint):
            raise url.error("has an endpoint that is no address; write http://HOST:PORT or https://HOST, without user, path "
                            "or options")
        return cls(url.name, url.host, url.path, retain_days=int(days), mode=mode, endpoint=endpoint,
                   region=url.options.get("region"))

    def put(self, size: int, note: bytes) -> bytes:
        """Make and lock the object unless it is there; the receipt is b"". Raises AnchorError as Anchor.put says."""
        refuse_length(self.name, note)
        key = self._prefix + file_name(size)
        with self._client("write") as client:
            self._refuse_unlocked_bucket(client)
            if key not in self._versions(client, key):
                self._put(client, key, note)
            # A server may not know If-None-Match, or forget the lock: what counts is what it holds.
            self._check(client, size, note)
        return b""

    def notes(self) -> dict[int, bytes]:
        """Read the first version of every note. Raises AnchorError, also where a later version differs from it."""
        with self._client("read") as client:
            return {
                size: self._first(client, key, versions).note
                for key, versions in sorted(self._versions(client, self._prefix).items())
                if (size := size_of(key.removeprefix(self._prefix))) is not None}

    def check(self, size: int, note: bytes, receipt: bytes) -> None:
        """Compare with the first version, which must be under its lock. Raises AnchorError."""
        with self._client("read") as client:
            self._check(client, size, note)

    def _check(self, client: Any, size: int, note: bytes) -> None:
        key = self._prefix + file_name(size)
        versions = self._versions(client, key).get(key)
        first = self._first(client, key, versions) if versions else None
        refuse_other(self.name, size, first and first.note, note)
        if first is None or first.mode not in (self._mode, "COMPLIANCE") or first.until is None:
            raise AnchorError(f"the anchor {self.name}: {key} is not locked in the mode {self._mode} (found: "
                              f"{first and first.mode}), so whoever may delete in the bucket could replace it. Find out who put "
                              "it there without the lock")
        if first.until <= datetime.now(UTC):
            raise AnchorError(f"the anchor {self.name}: the lock on {key} ended on {first.until:%Y-%m-%d}; since then it could "
                              "be replaced. Compare with another anchor, and raise retain_days for later checkpoints")

    def _put(self, client: Any, key: str, note: bytes) -> None:
        from botocore.exceptions import ClientError

        try:
            client.put_object(
                Bucket=self._bucket, Key=key, Body=note, ContentType="text/plain; charset=utf-8", IfNoneMatch="*",
                ObjectLockMode=self._mode, ObjectLockRetainUntilDate=datetime.now(UTC) + self._retain)
        except ClientError as error:
            if error.response["Error"].get("Code") not in _TAKEN:
                raise

    def _refuse_unlocked_bucket(self, client: Any) -> None:
        from botocore.exceptions import ClientError

        try:
            found = client.get_object_lock_configuration(Bucket=self._bucket)["ObjectLockConfiguration"]
        except ClientError as error:
            if error.response["Error"].get("Code") != "ObjectLockConfigurationNotFoundError":
                raise
            found = {}
        if found.get("ObjectLockEnabled") != "Enabled":
            raise AnchorError(f"the anchor {self.name}: the bucket has no Object Lock, so whoever may write to it may replace a "
                              "checkpoint. Nothing was written. Make a bucket with it: `aws s3api create-bucket --bucket NAME "
                              "--object-lock-enabled-for-bucket`")

    def _versions(self, client: Any, prefix: str) -> dict[str, list[str]]:
        """Give the ids of all versions by key, the first one first. A marker of a deletion hides a version and removes none."""
        found = dict[str, list[str]]()
        for page in client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix):
            for version in page.get("Versions", ()):
                found.setdefault(version["Key"], []).insert(0, version["VersionId"])  # S3 lists the newest first
        return found

    def _first(self, client: Any, key: str, versions: list[str]) -> "_Version":
        """Give the first version. Raises AnchorError where another one differs."""
        first, *later = (self._version(client, key, version) for version in versions)
        for number, version in enumerate(later, start=1):
            if version.note != first.note:
                raise AnchorError(f"the anchor {self.name} holds another checkpoint under {key}: version {versions[number]} "
                                  f"differs from the first, {versions[0]}. Somebody wrote over it, which the lock does not stop; "
                                  "the first is what was locked. Find out who did (the bucket's access log says), and keep both")
        return first

    def _version(self, client: Any, key: str, version: str) -> "_Version":
        answer = client.get_object(Bucket=self._bucket, Key=key, VersionId=version)
        note = refuse_length(self.name, answer["Body"].read(NOTE_LIMIT + 1))
        return _Version(note, answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate"))

    def _opened(self) -> Any:
        """Give the client, made once in a process: it costs more than a request, and a fork must not share connections."""
        import boto3
        from botocore.config import Config

        if self._made is None or self._made[0] != os.getpid():
            config = Config(
                connect_timeout=self._timeout, read_timeout=self._timeout, retries={"mode": "standard", "total_max_attempts": 3},
                s3={"addressing_style": "path"} if self._endpoint else {})
            self._made = os.getpid(), boto3.session.Session().client(
                "s3", endpoint_url=self._endpoint, region_name=self._region, config=config)
        return self._made[1]

    @contextmanager
    def _client(self, verb: str) -> Iterator[Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        advice = "Check bucket, endpoint, region, credentials (as boto3 finds them) and the role's rights"
        try:
            yield self._opened()
        except ClientError as error:
            said = error.response.get("Error", {})
            raise AnchorError(f"the anchor {self.name}: cannot {verb}: S3 answered {error.operation_name} with "
                              f"{said.get('Code', 'an error')}: {said.get('Message', '')}. {advice}") from None
        except BotoCoreError as error:
            raise AnchorError(f"the anchor {self.name}: cannot {verb}: {str(error).rstrip('.')}. {advice}") from None
