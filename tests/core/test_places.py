"""Addresses and secrets of notices: what is one, and what may be shown of it."""

from __future__ import annotations

import base64

import pytest

from crossfade.core.places import masked, signing_key, webhook_url


@pytest.mark.parametrize("url", ["https://example.org", "http://10.0.0.1:8080/a/b?c=d", "https://[::1]/x"])
def test_addresses_to_post_to(url: str) -> None:
    assert webhook_url(url) == url


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://example.org", "https://", "https://a b", "https://a/\n", "https://a:99999",
            "https://a:0", "https://[::1", "https://u:p@example.org", "https://example.org/" + "x" * 2000,
            "https://exämple.org"],
)  # fmt: skip
def test_no_addresses_to_post_to(url: str) -> None:
    with pytest.raises(ValueError, match=r"address to post to|password"):
        webhook_url(url)


@pytest.mark.parametrize(("size", "good"), [(23, False), (24, True), (64, True), (65, False)])
def test_a_signing_key_is_24_to_64_bytes(size: int, good: bool) -> None:
    key = bytes(range(size))
    text = "whsec_" + base64.b64encode(key).decode()
    if good:
        assert signing_key(text) == key
        with pytest.raises(ValueError, match="no secret"):
            signing_key(text.removeprefix("whsec_"))
    else:
        with pytest.raises(ValueError, match="24 to 64 bytes"):
            signing_key(text)


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert masked("https://hooks.example.org:8443/services/T0/B0/secret?x=y") == "https://hooks.example.org:8443/..."
    assert masked("https://user:secret@example.org") == "https://example.org"
    assert "secret" not in masked("https://[secret")
