"""Which addresses a webhook may lead to: public ones, and those of networks that the operator lists.

Whoever may make a webhook chooses an address that this host then connects to. Without this it could reach what only this host
can: other services on loopback, the cloud's metadata on a link-local address, the operator's own network.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 addresses that a gateway turns into the IPv4 address in their last 32 bits (RFC 6052, RFC 8215).
_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))

# Not globally reachable by IANA's registries of special addresses, and taken for public by one or another version of `ipaddress`.
# In 192.0.0.0/24 a cloud's metadata have an address.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",
            "192.88.99.0/24",
            "240.0.0.0/4",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fec0::/10",
        ),
    )
)

# Where clouds tell a host its own credentials, beside the link-local addresses.
_METADATA = tuple(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))


def networks_of(setting: str) -> tuple[Network, ...]:
    """As the operator writes them: 10.0.0.0/8, with commas between several. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in setting.split(",") if part.strip())


def is_address(host: str) -> bool:
    """And no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def why_not(text: str, allowed: Sequence[Network]) -> str | None:
    """Why an address may not be connected to; None where it may."""
    address = ipaddress.ip_address(text.partition("%")[0])
    reached = [address, *_within(address)]
    if any(one in network for one in reached for network in allowed):
        return None
    if all(map(_is_public, reached)):
        return None
    return f"{address} is not a public address, and FINEBITS_WEBHOOK_NETWORKS does not list it."


def is_of_a_host_alone(text: str) -> bool:
    """Whether an address means another thing on each host: loopback, its link, the cloud's metadata, everybody, nobody."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return any(
        one.is_loopback or one.is_link_local or one.is_unspecified or one.is_multicast or one in _METADATA
        for one in (address, *_within(address))
    )


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL)


def _within(address: Address) -> list[Address]:
    """The IPv4 address that an IPv6 one stands for, by whichever of the ways there are."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return [address.teredo[1]]
    is_compatible = 1 < int(address) < 2**32  # ::a.b.c.d, which was given up (RFC 4291, section 2.5.5.1)
    if is_compatible or any(address in network for network in _TRANSLATED):
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    return []
