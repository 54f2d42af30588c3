"""Keys and passwords of the embedded installation: drawn once, kept in files that only their owner may read."""

import base64
import secrets
import socket
from dataclasses import dataclass

from airgate.audit import signing
from airgate.platform.layout import Layout
from airgate.platform.private_files import read_json, write_json
from airgate.signatures import private_key

# Who may sign in, and Airflow's role for each. `airgate` is no person: promotions, the sweep and the demo read with it.
PEOPLE = {"admin": "admin", "mia": "user", "ana": "user", "omar": "user", "airgate": "viewer"}
WHO = {
    "admin": "administrator",
    "mia": "data scientist, asks for promotions",
    "ana": "ML engineer, approves",
    "omar": "risk officer, approves",
    "airgate": "service account, reads only",
}
KEYS = ("fernet_key", "api_secret", "jwt_secret", "postgres", "airflow", "mlflow", "audit_owner", "audit_writer",
        "audit_origin")


@dataclass(frozen=True)
class Credentials:
    """`keys` by the names in KEYS; `passwords` by user name."""

    keys: dict[str, str]
    passwords: dict[str, str]

    def __repr__(self) -> str:
        return f"Credentials(keys of {len(self.keys)}, passwords of {', '.join(self.passwords)})"


def ensure(layout: Layout) -> Credentials:
    """Read what was drawn before and draw what is missing. Both files have mode 0600."""
    keys_file = layout.home / "keys.json"
    keys, passwords = read_json(keys_file), read_json(layout.passwords)
    if not layout.audit_key.exists():
        signing.write_new(layout.audit_key)
    if not layout.model_key.exists():
        private_key.write_new(layout.model_key)
    new_keys = {name: _draw(name) for name in KEYS if name not in keys}
    if new_keys:
        write_json(keys_file, keys | new_keys)
    new_passwords = {name: secrets.token_urlsafe(9) for name in PEOPLE if name not in passwords}
    if new_passwords:
        write_json(layout.passwords, passwords | new_passwords)
    for path in (keys_file, layout.passwords):
        path.chmod(0o600)
    return Credentials(keys=keys | new_keys, passwords=passwords | new_passwords)


def _draw(name: str) -> str:
    if name == "audit_origin":  # no secret: the name of this installation's log, in every checkpoint
        return f"{socket.gethostname()}/airgate-{secrets.token_hex(4)}"
    if name == "fernet_key":  # Fernet's own form: 32 bytes, URL-safe base64 with padding
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(64)  # the tokens are signed with HMAC-SHA512, whose key should have 64 bytes
