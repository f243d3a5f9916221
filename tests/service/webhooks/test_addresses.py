import pytest

from service.webhooks.addresses import networks_of, why_not

PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]

NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # where clouds tell hosts their secrets
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.0.192",  # of another cloud
    "fec0::1",
    "3fff::1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff0e::1",
    # the same IPv4 addresses in the clothes that IPv6 has for them
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert why_not(address, ()) is None


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_may_not(address: str) -> None:
    assert "is not a public address" in (why_not(address, ()) or "")


def test_what_the_operator_lists_may_be_reached_and_no_more() -> None:
    allowed = networks_of("10.0.0.0/8, fd00::/8,127.0.0.1/32")
    assert [why_not(address, allowed) for address in ("10.9.9.9", "fd00::7", "127.0.0.1", "::ffff:10.0.0.1")] == [None] * 4
    assert all(why_not(address, allowed) for address in ("127.0.0.2", "192.168.0.1", "::1", "fe80::1"))


def test_networks_are_read_as_they_are_written_or_refused() -> None:
    assert networks_of("") == ()
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        networks_of("10.0.0.1/8")
