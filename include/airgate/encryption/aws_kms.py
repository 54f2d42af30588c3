"""Data keys wrapped by AWS KMS: `kms:airgate.encryption.aws_kms:AwsKms?alias/airgate`. The key itself never leaves AWS.

Needs boto3 where it is used (the steps image has none: add it to yours), and the rights kms:DescribeKey, kms:Encrypt and
kms:Decrypt. Region, credentials and endpoint are found as boto3 finds them, in AWS_... variables.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airgate.encryption.keys import WrongKeyError
from airgate.errors import ArtifactError, ConfigError

# KMS says these of the key or of what was wrapped, not of the moment: trying again does not help.
_REFUSALS = {"InvalidCiphertextException", "IncorrectKeyException", "NotFoundException", "DisabledException",
             "InvalidKeyUsageException", "KMSInvalidStateException", "AccessDeniedException"}


class AwsKms:
    """A KeyService. Names are key ARNs, so that an alias may move to another key: `airgate store rotate` then wraps anew."""

    def __init__(self, key: str) -> None:
        """`key` is an id, ARN or alias. Nothing is contacted yet. Raises ConfigError without one."""
        if not key:
            raise ConfigError("AIRGATE_STORE_KEYS: which key of AWS KMS? Name it after a question mark: "
                              "kms:airgate.encryption.aws_kms:AwsKms?alias/airgate")
        self._key = key

    @cached_property
    def current(self) -> str:
        """The ARN that the key's id or alias stands for now."""
        return str(self._ask("describe_key", KeyId=self._key)["KeyMetadata"]["Arn"])

    def holds(self, name: str) -> bool:
        """Whether the name is an ARN of KMS. Whether the key opens anything, KMS says."""
        return name.startswith("arn:aws") and ":kms:" in name

    def wrap(self, data_key: bytes, data_key_id: str) -> bytes:
        """What KMS made of it; the data key's id is its encryption context."""
        answer = self._ask("encrypt", KeyId=self.current, Plaintext=data_key, EncryptionContext=_context(data_key_id))
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, name: str, wrapped: bytes, data_key_id: str) -> bytes:
        """Raises WrongKeyError when KMS refuses, ArtifactError when it cannot be reached."""
        answer = self._ask("decrypt", KeyId=name, CiphertextBlob=wrapped, EncryptionContext=_context(data_key_id))
        return bytes(answer["Plaintext"])

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
        except ImportError:
            raise ConfigError("AIRGATE_STORE_KEYS names AWS KMS, which needs boto3; add it to the image that runs here") from None
        return boto3.client("kms")

    def _ask(self, action: str, **arguments: Any) -> Any:
        client = self._client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(client, action)(**arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = WrongKeyError if code in _REFUSALS else ArtifactError
            raise kind(f"AWS KMS refused {action} with the key {arguments['KeyId']}: {code}. Check that the key exists, is "
                       "enabled, and that this process may use it") from None
        except BotoCoreError as error:
            raise ArtifactError(f"AWS KMS did not answer {action}: {error}. Check region, credentials and network") from None


def _context(data_key_id: str) -> dict[str, str]:
    return {"airgate-data-key": data_key_id}
