"""Which addresses may be connected to."""

import pytest

from mien.errors import SourceRefused
from mien.net.guard import check_address

V4 = (
    "127.0.0.1 127.8.9.10 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254"
    " 100.64.0.1 100.100.100.200 168.63.129.16 192.0.0.8 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.9"
    " 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 192.88.99.1"
)
V6 = (
    ":: ::1 fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 fec0::1 2001:db8::1 100::1 3fff::1 5f00::1"
    " ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::10.1.1.1"
    " 2002:7f00:1:: 2002:a00:1::1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808"
    " 2001:0:7f00:1:0:0:f5ff:fffe 2001:0:808:808:0:0:80ff:fffe 2606:4700::5efe:10.0.0.1"
)
PUBLIC = "8.8.8.8 1.1.1.1 93.184.216.34 2606:4700:4700::1111 2a00:1450:4001:81b::200e 64:ff9b::808:808 ::ffff:8.8.8.8"


@pytest.mark.parametrize("address", (V4 + " " + V6).split())
def test_addresses_that_are_not_public_are_refused_with_the_same_words(address: str) -> None:
    with pytest.raises(SourceRefused) as caught:
        check_address(address)
    assert address not in caught.value.message
    with pytest.raises(SourceRefused) as other:
        check_address("10.0.0.1")
    assert caught.value.message == other.value.message


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses_pass(address: str) -> None:
    assert str(check_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%eth0"])
def test_a_setting_allows_private_addresses(address: str) -> None:
    assert str(check_address(address, allow_private=True)) == address


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5"])
def test_what_is_no_address_is_refused_even_where_private_ones_are_allowed(text: str) -> None:
    with pytest.raises(SourceRefused):
        check_address(text, allow_private=True)
