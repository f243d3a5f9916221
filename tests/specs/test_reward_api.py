"""Which reward APIs a job may name."""

import pytest

from service.specs.reward_api import hosts_of, why_not_allowed

HOSTS = hosts_of(" Rewards.example, 10.0.0.7:8000 ,[::1]:9000,")


def test_the_setting_is_hosts_with_commas_between_them() -> None:
    assert HOSTS == ("rewards.example", "10.0.0.7:8000", "[::1]:9000")
    assert hosts_of("") == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://rewards.example/score",
        "http://rewards.example/score?v=2",
        "https://REWARDS.example:443/",
        "http://rewards.example:80",
        "http://10.0.0.7:8000/v1",
        "http://[::1]:9000/",
    ],
)
def test_a_listed_host_at_its_port_is_allowed(url: str) -> None:
    assert why_not_allowed(url, HOSTS) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://rewards.example:8443/",
        "http://rewards.example:443/",
        "https://rewards.example.evil.org/",
        "https://evil.org/rewards.example",
        "https://evil.org?rewards.example",
        "http://10.0.0.7/",
        "http://10.0.0.7:80000/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
    ],
)
def test_another_host_or_another_port_is_not(url: str) -> None:
    assert why_not_allowed(url, HOSTS) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://rewards.example@evil.org/",
        "https://user:secret@rewards.example/",
        "https://evil.org#@rewards.example/",
        "https://rewards.example\\@evil.org/",
        "https://evil.org\\.rewards.example/",
        "https://rewards.example\t.evil.org/",
        "https://rewards.example\n/",
        " https://rewards.example/",
        "https://rewards%2eexample/",
        "ftp://rewards.example/",
        "file:///etc/passwd",
        "rewards.example/score",
        "https:///score",
        "https://",
        "@rm",
        "scorer",
        "",
    ],
)
def test_what_could_be_read_as_two_hosts_is_no_url_here(url: str) -> None:
    assert str(why_not_allowed(url, HOSTS)).startswith("A reward model of the type api is the URL of its endpoint")


def test_the_sentence_names_the_host_and_those_that_are_listed() -> None:
    assert why_not_allowed("http://evil.org/", HOSTS) == (
        "The reward API's host evil.org:80 is not among the operator's FINEBITS_REWARD_HOSTS; there are rewards.example, "
        "10.0.0.7:8000, [::1]:9000."
    )
    assert "it lists none" in str(why_not_allowed("http://evil.org/", ()))
