import httpx2
import pytest

from service.client import Client
from service.clients.requests import is_plain


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://127.0.0.1:8765", True),
        ("http://localhost", True),
        ("https://127.0.0.1:8765", False),
        ("http://finebits.example", False),  # a proxy may stand between, and be spoken to with TLS
        ("https://finebits.example", False),
    ],
)
def test_certificates_are_not_loaded_only_where_nothing_can_be_encrypted(
    url: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}
    monkeypatch.setattr(httpx2, "Client", lambda **settings: given.update(settings))
    Client(url)
    assert is_plain(url) is plain
    assert (given["verify"], given.get("follow_redirects", False)) == (not plain, False)
