"""reward_model_type api: a server of somebody's that is sent texts and answers a score for each.

It is sent {"model": "model", "messages": [prompt + response, ...]}, as LLaMA-Factory sends it, and answers {"scores": [...]}.

The host is the operator's choice, and may be anywhere in the operator's networks. Where its name leads is somebody's who keeps
names: it is looked up once, at each connection, and leads neither to this host itself nor to the cloud's metadata.
"""

import json
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic, sleep
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx2
import torch

from service.specs.reasons import Reason
from service.specs.reward_api import DEFAULT_PORTS, why_not_allowed
from service.webhooks.addresses import is_address, is_of_a_host_alone
from worker.failures import JobFailure

MODEL = "model"  # what LLaMA-Factory calls it to every server
MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class Patience:
    """Seconds, but for the number of tries."""

    answer: float = 60.0  # for the whole of one answer
    tries: int = 6
    first_wait: float = 1.0  # doubled at each try, and shortened at random by up to a half, so that many do not come at once
    longest_wait: float = 60.0  # however long the server asks for


# The addresses of a name, in the order in which they are to be tried.
Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> Sequence[str]:
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class RewardApi:
    """Scores by asking. `check` is called while it waits to ask again: it may raise, as `Run.check` does."""

    def __init__(
        self,
        url: str,
        hosts: tuple[str, ...],
        check: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
        key: str | None = None,
        resolve: Resolve = resolve,
    ):
        why_not = why_not_allowed(url, hosts)
        if why_not is not None:
            raise JobFailure(Reason.REWARD_API_NOT_ALLOWED, why_not)
        self._url = httpx2.URL(url)
        self._host = urlsplit(url).netloc
        self._resolve = resolve
        self._check = check
        self._patience = patience or Patience()
        self._headers = {"Host": self._host} | ({} if key is None else {"Authorization": f"Bearer {key}"})

    def score(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, prompts: list[str], responses: list[str]
    ) -> torch.Tensor:
        texts = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
        answer = self._asked({"model": MODEL, "messages": texts})
        return torch.tensor(self._scores(answer, len(texts)), dtype=torch.float32, device=input_ids_BT.device)

    def _asked(self, document: dict[str, Any]) -> bytes:
        """Again where asking again may help; raises a JobFailure in the end."""
        failure: JobFailure | None = None
        asked_to_wait: float | None = None
        for number in range(self._patience.tries):
            if failure is not None:
                self._wait(number, asked_to_wait)
            try:
                status, headers, body = self._answer(document)
            except (httpx2.TimeoutException, TimeoutError):
                sentence = f"did not answer within {self._patience.answer:g} seconds, {number + 1} times in a row"
                failure, asked_to_wait = self._failure(Reason.REWARD_API_SLOW, sentence), None
                continue
            except httpx2.TransportError as error:
                failure, asked_to_wait = self._failure(Reason.REWARD_API_DOWN, f"cannot be reached ({_said(error)})"), None
                continue
            if status == 200:
                return body
            if status != 429 and status < 500:
                self._refuse(status, headers)
            failure = self._failure(Reason.REWARD_API_DOWN, f"answered with the status {status}, {number + 1} times in a row")
            asked_to_wait = _retry_after(headers.get("Retry-After"))
        assert failure is not None
        raise failure

    def _answer(self, document: dict[str, Any]) -> tuple[int, httpx2.Headers, bytes]:
        """Of the first of its addresses that can be connected to."""
        ends_at = monotonic() + self._patience.answer
        *before, last = self._addresses()
        for address in before:
            try:
                return self._answer_of(address, document, ends_at)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return self._answer_of(last, document, ends_at)

    def _addresses(self) -> list[str]:
        """At least one."""
        host = self._url.host
        if is_address(host):
            return [host]
        try:
            found = list(self._resolve(host, self._url.port or DEFAULT_PORTS[self._url.scheme]))
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(str(error)) from None
        reachable = [address for address in found if host == "localhost" or not is_of_a_host_alone(address)]
        if found and not reachable:
            sentence = f"has a name that leads to {found[0]}, which is gone to only where FINEBITS_REWARD_HOSTS lists it"
            raise self._failure(Reason.REWARD_API_NOT_ALLOWED, sentence)
        if not found:
            raise httpx2.ConnectError("its name has no address")
        return reachable

    def _answer_of(self, address: str, document: dict[str, Any], ends_at: float) -> tuple[int, httpx2.Headers, bytes]:
        """The whole of it within the time: a server that sends a byte now and then would never be late otherwise."""
        url = self._url.copy_with(host=address)
        body = b""
        # no proxy and no password of the environment's: the texts go to the host that was allowed, and to no other
        with (
            httpx2.Client(timeout=self._patience.answer, follow_redirects=False, trust_env=False) as http,
            http.stream(
                "POST", url, json=document, headers=self._headers, extensions={"sni_hostname": self._url.host}
            ) as response,
        ):
            for part in response.iter_bytes():
                body += part
                if monotonic() > ends_at:
                    raise TimeoutError
                if len(body) > MOST_BYTES:
                    raise self._failure(Reason.REWARD_API_WRONG, f"sends more than {MOST_BYTES:,} bytes")
            return response.status_code, response.headers, body

    def _wait(self, number: int, asked: float | None) -> None:
        patience = self._patience
        backoff = patience.first_wait * 2 ** (number - 1) * random.uniform(0.5, 1.0)
        ends_at = monotonic() + min(max(backoff, asked or 0.0), patience.longest_wait)
        while (left := ends_at - monotonic()) > 0:
            self._check()
            sleep(min(left, 0.5))

    def _refuse(self, status: int, headers: httpx2.Headers) -> NoReturn:
        if 300 <= status < 400:
            to = urlsplit(headers.get("Location", "")).netloc or "another place"
            raise self._failure(Reason.REWARD_API_REFUSES, f"sends on to {to} (status {status}), which is not followed")
        raise self._failure(Reason.REWARD_API_REFUSES, f"refuses what it is asked, with the status {status}")

    def _scores(self, answer: bytes, n_texts: int) -> list[float]:
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError):
            raise self._failure(Reason.REWARD_API_WRONG, "answered with something that is not JSON") from None
        scores = document.get("scores") if isinstance(document, dict) else None
        if not isinstance(scores, list):
            raise self._failure(Reason.REWARD_API_WRONG, 'answered without a list of "scores"')
        if len(scores) != n_texts:
            raise self._failure(Reason.REWARD_API_WRONG, f"answered {len(scores)} scores for {n_texts} responses")
        bad = [score for score in scores if not _is_score(score)]
        if bad:
            sentence = f"answered {json.dumps(bad[0])[:40]} where a score must be a finite number"
            raise self._failure(Reason.REWARD_API_WRONG, sentence)
        return [float(score) for score in scores]

    def _failure(self, reason: Reason, what: str) -> JobFailure:
        return JobFailure(reason, f"The reward API at {self._host} {what}.", host=self._host)


def _is_score(score: Any) -> bool:
    """A finite number in fp32, too."""
    return isinstance(score, int | float) and not isinstance(score, bool) and abs(score) < 3e38


def _retry_after(header: str | None) -> float | None:
    """In seconds, of either form that HTTP has (RFC 9110, section 10.2.3); None where there is none that can be read."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
