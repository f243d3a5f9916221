import pytest
import torch
from safetensors.torch import load_file, save_file

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.value_head import ValueHead, load, save

D = 8


@pytest.fixture
def trained():
    torch.manual_seed(0)
    head = ValueHead(D)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def test_a_new_head_answers_zero_for_every_position():
    assert torch.equal(ValueHead(D)(torch.randn(2, 3, D)), torch.zeros(2, 3))


def test_a_value_is_the_weights_product_with_the_state_and_the_bias(trained):
    hidden = torch.randn(2, 3, D)
    expected = torch.einsum("btd,d->bt", hidden, trained.summary.weight[0]) + trained.summary.bias
    assert torch.allclose(trained(hidden), expected, atol=1e-6)


def test_states_in_half_precision_are_valued_in_fp32(trained):
    assert trained(torch.randn(1, 2, D).to(torch.bfloat16)).dtype == torch.float32


def same(one, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_what_was_saved_comes_back(trained, tmp_path):
    file = save(trained, tmp_path)
    assert set(load_file(file)) == {"v_head.summary.weight", "v_head.summary.bias"}
    assert same(load(tmp_path, D), trained)


@pytest.mark.parametrize("prefix", ["v_head.", ""])
@pytest.mark.parametrize("name", ["value_head.safetensors", "value_head.bin"])
def test_either_file_with_either_names_is_read(trained, tmp_path, name, prefix):
    tensors = {f"{prefix}{key}": tensor.clone() for key, tensor in trained.state_dict().items()}
    (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    assert same(load(tmp_path, D), trained)


def test_the_safe_file_comes_first(trained, tmp_path):
    torch.save({"v_head.summary.weight": torch.zeros(1, D), "v_head.summary.bias": torch.zeros(1)}, tmp_path / "value_head.bin")
    save(trained, tmp_path)
    assert same(load(tmp_path, D), trained)


def test_a_folder_without_one_has_none(tmp_path):
    assert load(tmp_path, D) is None


class Payload:
    def __reduce__(self):
        return pytest.fail, ("the pickle was run",)


def poison(folder):
    torch.save({"v_head.summary.weight": Payload()}, folder / "value_head.bin")


def damage(folder):
    (folder / "value_head.safetensors").write_bytes(b"\xff" * 20)


def widen(folder):
    save(ValueHead(2 * D), folder)


def forget(folder):
    save_file({"v_head.summary.weight": torch.zeros(1, D)}, folder / "value_head.safetensors")


def listed(folder):
    torch.save([torch.zeros(1, D)], folder / "value_head.bin")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (widen, "is of another model: its weight is 1x16, and this model's 1x8."),
        (forget, "lacks v_head.summary.bias."),
        (poison, "it is damaged, or holds more than tensors."),
        (damage, "cannot be read: "),
        (listed, "holds no tensors by name."),
    ],
)
def test_a_head_that_does_not_fit_or_runs_code_is_refused_by_its_file(tmp_path, spoil, why):
    spoil(tmp_path)
    with pytest.raises(JobFailure) as caught:
        load(tmp_path, D)
    assert caught.value.reason == Reason.BAD_MODEL
    assert caught.value.where == {"file": next(tmp_path.iterdir()).name}
    assert why in caught.value.sentence
