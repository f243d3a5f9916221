"""What ranks agree on, in one process: alone it agrees with itself. Several are in test_launching.py."""

import pytest
import torch
import torch.distributed as dist

from worker import ranks


def drawn_by(monkeypatch: pytest.MonkeyPatch, rank: int) -> float:
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    torch.manual_seed(7)
    ranks.draw_apart(7)
    return float(torch.rand(()))


def test_each_rank_draws_noise_of_its_own_and_the_first_what_a_process_alone_would(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    alone = float(torch.rand(()))
    first, second, third = (drawn_by(monkeypatch, rank) for rank in range(3))
    assert first == alone
    assert len({first, second, third}) == 3


def test_a_process_alone_agrees_with_itself() -> None:
    ranks.meet()
    ranks.part()
    assert (ranks.n_ranks(), ranks.rank(), ranks.is_first()) == (1, 0, True)
    assert ranks.agreed(lambda: "so") == "so"
    assert ranks.of_all(3) == [3]


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (RuntimeError("[pair.cc:544] Connection closed by peer [127.0.0.1]:1234"), True),
        (RuntimeError("Timed out waiting 1800000ms for recv operation to complete"), True),
        (dist.DistBackendError("NCCL communicator was aborted on rank 1."), True),
        (RuntimeError("shapes do not match"), False),
        (OSError("Connection reset by peer"), False),
    ],
)
def test_what_only_says_that_a_peer_is_gone_is_known_for_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception, is_so: bool
) -> None:
    assert not ranks.is_about_a_peer(error), "alone there is none"
    monkeypatch.setattr(ranks, "n_ranks", lambda: 2)
    assert ranks.is_about_a_peer(error) == is_so
