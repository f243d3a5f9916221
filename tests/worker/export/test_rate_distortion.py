"""A row of the rate-distortion table, against layers whose rounding is done by hand."""

import math

import pytest
import torch
from safetensors.torch import save_file

from worker.export.rate_distortion import rate_distortion


class Rounded(torch.nn.Module):
    """A layer on a grid of `step`, which keeps int8 and a scale of two bytes for each output."""

    def __init__(self, layer, step):
        super().__init__()
        weight = layer.weight.detach()
        self.register_buffer("qweight", (weight / step).round().to(torch.int8))
        self.register_buffer("scales", torch.full((len(weight), 1), step, dtype=torch.float16))
        self.bias = layer.bias

    def forward(self, x):
        return torch.nn.functional.linear(x, self.qweight * self.scales.float(), self.bias)


class Net(torch.nn.Module):
    def __init__(self, n_inputs=64, n_outputs=96):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(10, n_inputs)
        self.layer = torch.nn.Linear(n_inputs, n_outputs)
        torch.nn.init.normal_(self.layer.weight, mean=0.5, std=2.0)


def pair(folder, step, **shape):
    whole, packed = Net(**shape), Net(**shape)
    packed.layer = Rounded(packed.layer, step)
    save_file({name: tensor.contiguous() for name, tensor in packed.state_dict().items()}, folder / "model.safetensors")
    return whole, packed


def test_each_number_is_what_the_hand_makes_it(tmp_path):
    whole, packed = pair(tmp_path, 0.5)
    row = rate_distortion(whole, packed, tmp_path, 8)
    weight = whole.layer.weight.detach().double()
    error = (weight - 0.5 * (weight / 0.5).round()).square().mean().item()
    assert row.bits == 8
    assert row.bits_per_weight == 8 + 16 * 96 / (64 * 96)
    others = 10 * 64 + 96
    assert row.bits_per_parameter == pytest.approx((8.25 * 6144 + 32 * others) / (6144 + others))
    assert row.weight_variance == pytest.approx(weight.var(correction=0).item())
    assert row.weight_distortion == pytest.approx(error, rel=1e-5)
    assert row.gaussian_bound == pytest.approx(row.weight_variance * 2 ** (-2 * 8.25))
    assert row.bits_above_bound == pytest.approx(0.5 * math.log2(error / row.gaussian_bound), rel=1e-5)


def test_inputs_are_asked_in_parts_where_there_are_many(tmp_path):
    whole, packed = pair(tmp_path, 0.5, n_inputs=2100, n_outputs=3)
    weight = whole.layer.weight.detach().double()
    error = (weight - 0.5 * (weight / 0.5).round()).square().mean().item()
    assert rate_distortion(whole, packed, tmp_path, 8).weight_distortion == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0, 2.0])
def test_no_grid_is_below_the_bound(tmp_path, step):
    whole, packed = pair(tmp_path, step)
    row = rate_distortion(whole, packed, tmp_path, 8)
    assert 0 < row.gaussian_bound < row.weight_distortion
    assert row.bits_above_bound > 0


def test_weights_that_lie_on_the_grid_lose_nothing(tmp_path):
    whole, packed = pair(tmp_path, 0.5)
    whole.layer.weight.data = packed.layer.qweight * 0.5
    packed.layer.bias.data.zero_()  # or float32 would lose what it adds and takes away
    row = rate_distortion(whole, packed, tmp_path, 8)
    assert row.weight_distortion == 0
    assert row.bits_above_bound is None


def test_a_model_of_which_nothing_is_rounded_has_no_row(tmp_path):
    pair(tmp_path, 0.5)
    with pytest.raises(ValueError, match="no layer"):
        rate_distortion(Net(), Net(), tmp_path, 4)
