"""A time-stamp service of the test's own: an HTTP server that lets `openssl ts -reply` answer."""

import base64
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.audit.anchors.conftest import NOTE, OTHER, one

from airgate.audit.anchors import AnchorError
from airgate.audit.anchors.timestamp import TimestampAnchor

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
O = Airgate tests
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[tsa]
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[soft]
keyUsage = critical,digitalSignature
extendedKeyUsage = timeStamping
[mail]
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,emailProtection
[service]
serial = serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def openssl(folder: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(["openssl", *arguments], cwd=folder, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass
class Service:
    """A certificate authority and its time-stamp service in one folder; `change` alters the next answers."""

    folder: Path
    address: str = ""
    change: dict[str, object] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)

    def certify(self, name: str, extensions: str, issuer: str = "") -> None:
        signed_by = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
        openssl(self.folder, "req", "-config", "ts.cnf", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-noenc", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/O=Airgate tests/CN={name}", "-days", "3",
                "-extensions", extensions, *signed_by)

    def answer(self, query: bytes, signer: str = "tsa", chain: str = "ca") -> bytes:
        (self.folder / "query.tsq").write_bytes(query)
        openssl(self.folder, "ts", "-reply", "-config", "ts.cnf", "-section", "service", "-queryfile", "query.tsq",
                "-signer", f"{signer}.pem", "-inkey", f"{signer}.key", "-chain", f"{chain}.pem", "-out", "reply.tsr")
        return (self.folder / "reply.tsr").read_bytes()

    def anchor(self, roots: str = "ca.pem") -> TimestampAnchor:
        return one(f"tsa+{self.address}/tsr?certificates={self.folder}/{roots}")


def made(folder: Path) -> Service:
    service = Service(folder)
    (folder / "ts.cnf").write_text(CONFIG)
    (folder / "serial").write_text("01\n")
    service.certify("ca", "ca")
    service.certify("tsa", "tsa", "ca")
    return service


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Service]:
    service = made(tmp_path_factory.mktemp("service"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            query = self.rfile.read(int(self.headers["Content-Length"]))
            service.seen.append(dict(self.headers) | {"path": self.path})
            body = service.change.get("body") or service.answer(service.change.get("query") or query)
            self.send_response(service.change.get("status", 200))
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # who has read enough hangs up
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    service.address = f"http://127.0.0.1:{server.server_port}"
    yield service
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service(running):
    running.change.clear()
    running.seen.clear()
    return running


@pytest.fixture
def receipt(service):
    return service.anchor().put(7, NOTE)


def test_the_receipt_vouches_for_this_note(service, receipt):
    anchor = service.anchor()
    anchor.check(7, NOTE, receipt)
    assert anchor.notes() == {}
    assert service.seen[0]["Content-Type"] == "application/timestamp-query"
    assert service.seen[0]["path"] == "/tsr"
    anchor.check(7, NOTE, anchor.put(7, NOTE))


def test_an_outsider_checks_it_with_openssl(service, receipt, tmp_path):
    name = "00000000000000000007.note"
    (tmp_path / "receipt.tsr").write_bytes(receipt)
    (tmp_path / name).write_bytes(NOTE)
    roots = f"{service.folder}/ca.pem"
    assert b"Verification: OK" in openssl(tmp_path, "ts", "-verify", "-in", "receipt.tsr", "-data", name, "-CAfile", roots)
    assert b"Hash Algorithm: sha256" in openssl(tmp_path, "ts", "-reply", "-in", "receipt.tsr", "-text")


def test_another_note_is_refused(service, receipt):
    with pytest.raises(AnchorError, match="receipt does not vouch for the checkpoint of size 7: it was given for another note. "
                                          "Compare by hand: `openssl ts -verify -in RECEIPT -data 0{19}7.note -CAfile "):
        service.anchor().check(7, OTHER, receipt)


def test_a_stamp_of_somebody_not_trusted_is_refused(service, receipt, tmp_path):
    stranger = made(tmp_path)
    (service.folder / "stranger.pem").write_bytes((tmp_path / "ca.pem").read_bytes())
    with pytest.raises(AnchorError, match="size 7: its certificates do not lead to a trusted root: self-signed"):
        service.anchor("stranger.pem").check(7, NOTE, receipt)
    forged = stranger.answer(query(service, NOTE))
    with pytest.raises(AnchorError, match="size 7: its certificates do not lead to a trusted root: "):
        service.anchor().check(7, NOTE, forged)
    service.change["body"] = forged
    with pytest.raises(AnchorError, match="size 7: its certificates do not lead to a trusted root: "):
        service.anchor().put(7, NOTE)


def query(service: Service, note: bytes, *options: str) -> bytes:
    return openssl(service.folder, "ts", "-query", "-sha256", "-cert", "-data", "/dev/stdin", *options, stdin=note)


def test_half_a_receipt_or_none_is_refused(service, receipt):
    anchor = service.anchor()
    for length in [*range(0, len(receipt), 37), len(receipt) - 1]:
        with pytest.raises(AnchorError, match="does not vouch for the checkpoint of size 7"):
            anchor.check(7, NOTE, receipt[:length])
    with pytest.raises(AnchorError, match="no time-stamp response, or not all of one"):
        anchor.check(7, NOTE, b"")
    with pytest.raises(AnchorError, match="no time-stamp response, or not all of one"):
        anchor.check(7, NOTE, receipt + b"\0")


def test_a_changed_byte_is_refused_or_says_nothing(service, receipt):
    """The certificate of the root, which the answer need not carry, may be changed; what is stamped may not."""
    anchor, accepted = service.anchor(), []
    for position in range(0, len(receipt), 3):
        forged = bytearray(receipt)
        forged[position] ^= 1
        with suppress(AnchorError):
            anchor.check(7, NOTE, bytes(forged))
            accepted.append(bytes(forged))
    stamped = stamp_info(service, receipt)
    assert stamped and len(accepted) < len(receipt) / 3 / 2
    assert all(stamped in forged for forged in accepted)


def stamp_info(service: Service, receipt: bytes) -> bytes:
    """The TSTInfo (RFC 3161, 2.4.2): what the service signs."""
    (service.folder / "receipt.tsr").write_bytes(receipt)
    token = openssl(service.folder, "ts", "-reply", "-config", "ts.cnf", "-in", "receipt.tsr", "-token_out")
    return openssl(service.folder, "cms", "-verify", "-noverify", "-inform", "DER", stdin=token)


def test_an_answer_to_another_question_is_refused(service, receipt):
    service.change["body"] = receipt
    with pytest.raises(AnchorError, match="Nonce mismatch"):
        service.anchor().put(7, NOTE)
    service.change.clear()
    service.change["query"] = query(service, OTHER)
    with pytest.raises(AnchorError, match="it was given for another note"):
        service.anchor().put(7, NOTE)


def test_a_stamp_over_another_digest_is_refused(service):
    stamp = service.answer(openssl(service.folder, "ts", "-query", "-sha512", "-cert", "-data", "/dev/stdin", stdin=NOTE))
    with pytest.raises(AnchorError, match="it was given for another note"):
        service.anchor().check(7, NOTE, stamp)


@pytest.mark.parametrize("purpose", ["soft", "mail"])
def test_a_certificate_for_another_purpose_is_refused(service, receipt, purpose):
    """`openssl ts` signs with no such certificate; who has one from the same authority would use `openssl cms`."""
    service.certify(purpose, purpose, "ca")
    signer = ["-signer", f"{purpose}.pem", "-inkey", f"{purpose}.key", "-econtent_type", "1.2.840.113549.1.9.16.1.4"]
    token = openssl(service.folder, "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", *signer,
                    stdin=stamp_info(service, receipt))
    granted = bytes.fromhex("3003020100") + token
    with pytest.raises(AnchorError, match="do not lead to a trusted root: unsuitable certificate purpose"):
        service.anchor().check(7, NOTE, b"\x30\x82" + len(granted).to_bytes(2) + granted)


def test_a_refusal_is_told(service):
    request = query(service, NOTE)
    service.change["body"] = refusal = service.answer(request.replace(request[:3], b"\x30\x03\x02"))
    assert len(refusal) < 200
    with pytest.raises(AnchorError, match=r"size 7: the service refused \(status 2\): .*"):
        service.anchor().put(7, NOTE)


def test_an_intermediate_authority_travels_with_the_stamp(service):
    service.certify("between", "ca", "ca")
    service.certify("leaf", "tsa", "between")
    service.anchor().check(7, NOTE, service.answer(query(service, NOTE), signer="leaf", chain="between"))


def test_several_roots_may_be_trusted(service, receipt, tmp_path):
    both = (made(tmp_path).folder / "ca.pem").read_bytes() + 2 * (service.folder / "ca.pem").read_bytes()
    (service.folder / "both.pem").write_bytes(both)
    service.anchor("both.pem").check(7, NOTE, receipt)


@pytest.mark.parametrize(("content", "said"), [(None, "No such file or directory"), (b"no", "no certificate in PEM form")])
def test_roots_that_cannot_be_read(service, receipt, content, said):
    if content:
        (service.folder / "bad.pem").write_bytes(content)
    with pytest.raises(AnchorError, match=rf"cannot read the trusted roots in \S+ \(.*{said}\); get the root certificates"):
        service.anchor("bad.pem" if content else "missing.pem").check(7, NOTE, receipt)


@pytest.mark.parametrize("status", [302, 401, 500])
def test_a_server_that_gives_no_stamp(service, status):
    service.change |= {"status": status, "body": b"sorry"}
    with pytest.raises(AnchorError, match=f"/tsr answered with status {status} and no time stamp; is the address that of a time"):
        service.anchor().put(7, NOTE)


def test_a_web_page_is_no_stamp_and_an_endless_one_is_not_read(service):
    service.change["body"] = b"<html>"
    with pytest.raises(AnchorError, match="no time-stamp response"):
        service.anchor().put(7, NOTE)
    service.change["body"] = b"x" * 10_000_000
    with pytest.raises(AnchorError, match="answered with status 200 and no time stamp"):
        service.anchor().put(7, NOTE)


def test_user_and_password_go_in_the_header_and_into_no_message(service):
    anchor = TimestampAnchor("tsa+https://h/tsr", f"{service.address}/tsr", service.folder / "ca.pem", ("ana", "s3cr@t"))
    anchor.put(7, NOTE)
    assert base64.b64decode(service.seen[0]["Authorization"].removeprefix("Basic ")) == b"ana:s3cr@t"
    silent = one(f"tsa+https://ana:s3cr%40t@127.0.0.1:1/tsr?certificates={service.folder}/ca.pem")
    with pytest.raises(AnchorError, match=r"the anchor tsa\+https://127.0.0.1:1/tsr cannot be reached \(.*refused") as caught:
        silent.put(7, NOTE)
    assert "s3cr" not in str(caught.value) and "ana:" not in str(caught.value)


def test_what_is_no_size_or_no_note_is_not_sent(service):
    with pytest.raises(AnchorError, match="size is -1; allowed"):
        service.anchor().put(-1, NOTE)
    with pytest.raises(AnchorError, match="more than 65536 bytes"):
        service.anchor().put(7, b"x" * 65537)
    assert service.seen == []
