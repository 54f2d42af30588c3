import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airgate.signatures import keys, statement

DIGEST_A, DIGEST_B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FILES = {"airgate_model.json": DIGEST_A, "model.ubj": DIGEST_B}


@pytest.fixture(scope="session")
def signer():
    """The key of this environment."""
    return keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "production")


@pytest.fixture(scope="session")
def staging():
    """The key of another environment."""
    return keys.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "staging")


@pytest.fixture
def registration():
    """What is said of version 3 of a model of two files."""
    predicate = statement.Registration(
        model="cats", version="3", model_digest=statement.manifest_digest(FILES), tags={"airgate.training_run": "manual__1"},
        training_run="manual__1", mlflow_run_id="0123", source="models:/m-1", register_event="an event", environment="production")
    return statement.Statement(files=FILES, predicate=predicate)
