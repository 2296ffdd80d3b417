"""What is said of certificates that are no good."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from msilo_lite.errors import ConfigError
from msilo_lite.sip.certificates import load, signature
from msilo_lite.sip.threshold import TlsFiles
from tests.sip.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    shown = authority.issue("silo", "silo.home.lan")
    return TlsFiles(shown.certificate, shown.key)


def test_a_certificate_and_its_key(files: TlsFiles, authority: Authority) -> None:
    server = load(replace(files, client_ca=authority.file)).server
    assert server
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    assert server.verify_mode is ssl.CERT_REQUIRED


def test_one_file_may_hold_both(files: TlsFiles, tmp_path: Path) -> None:
    assert files.certificate
    assert files.key
    both = tmp_path / "both.pem"
    both.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    assert load(TlsFiles(both)).server


def test_without_files_servers_are_checked_by_the_cas_of_this_system() -> None:
    contexts = load(TlsFiles())
    assert contexts.server is None
    assert (contexts.client.verify_mode, contexts.client.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert contexts.client.minimum_version is ssl.TLSVersion.TLSv1_2
    unchecked = load(TlsFiles(verify=False)).client
    assert (unchecked.verify_mode, unchecked.check_hostname) == (ssl.CERT_NONE, False)


def test_what_is_no_good_is_said_with_setting_and_file(files: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    missing, nonsense = tmp_path / "missing.pem", tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    other = authority.issue("other", "other.home.lan").key
    wrong = {
        f"tls_certificate {missing} cannot be read: No such file or directory": replace(files, certificate=missing),
        f"tls_key {missing} cannot be read": replace(files, key=missing),
        f"tls_key {other} is not the key of tls_certificate {files.certificate}": replace(files, key=other),
        f"tls_certificate {files.certificate} with tls_key {nonsense} cannot be used": replace(files, key=nonsense),
        f"tls_certificate {nonsense} with tls_key {files.key} cannot be used": replace(files, certificate=nonsense),
        f"tls_client_ca {missing} cannot be read": replace(files, client_ca=missing),
        f"tls_client_ca {nonsense} holds no CA certificate in PEM": replace(files, client_ca=nonsense),
        f"tls_ca {nonsense} holds no CA certificate in PEM": replace(files, ca=nonsense),
    }
    for words, tried in wrong.items():
        with pytest.raises(ConfigError) as caught:
            load(tried)
        assert words in str(caught.value)


def test_a_key_with_a_password_asks_nobody(files: TlsFiles, tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and a service would hang."""
    from cryptography.hazmat.primitives import serialization as form

    assert files.key
    key = form.load_pem_private_key(files.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    secret = form.BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, secret))
    with pytest.raises(ConfigError, match="the key without a password"):
        load(replace(files, key=locked))


def test_a_new_file_is_seen(files: TlsFiles, authority: Authority) -> None:
    before = signature(files)
    assert signature(files) == before
    authority.issue("silo", "silo.home.lan")
    assert signature(files) != before
    assert signature(replace(files, key=Path("missing"))) != before
