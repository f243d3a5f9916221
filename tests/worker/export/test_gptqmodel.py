"""The real library, where it is installed: pip install '.[worker,gptq]' (docs/how-to/quantize.md)."""

import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from tests.containers import ROOT
from tests.worker.stages.attempts import Host, a_job, training
from worker.models.loading import load_model
from worker.models.quantization import quantized_with

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("gptqmodel") is None, reason="needs the extra gptq"),
    pytest.mark.filterwarnings("ignore"),  # the library's own, of which there are many
]

BITS = (2, 3, 4, 8)
CORPUS = [
    f"{n} " + "the quick brown fox jumps over the lazy dog and the other animals of the forest there " * 4 for n in range(40)
]


@pytest.fixture(scope="module")
def exports(tmp_path_factory, tokenizer_folder):
    """A model that has learned something, in every number of bits, and a step that goes on with each."""
    host = Host(tmp_path_factory.mktemp("host"), a_llama, tokenizer_folder)
    host.add_dataset("corpus", CORPUS)
    quantizing = {"export_quantization_dataset": "corpus", "export_quantization_nsamples": 16, "export_quantization_maxlen": 64}
    learn = {"name": "sft", "do": "train", "training": training(max_steps=40)}
    steps = [
        {
            "name": f"q{bits}",
            "do": "export",
            "model": {"model_name_or_path": "@sft", "export_quantization_bit": bits, **quantizing},
        }
        for bits in BITS
    ]
    further = [
        {"name": f"on{bits}", "do": "train", "model": {"model_name_or_path": f"@q{bits}"}, "training": training(max_steps=6)}
        for bits in BITS
    ]
    job = a_job(measures={"names": ""}, steps=[learn, *steps, *further])
    attempt = host.done(job | {"training": {"seed": 1}})
    return host, attempt


def a_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=256, **shape))


def certificates(exports):
    host, attempt = exports
    return {bits: json.loads((host.folder(attempt, f"q{bits}") / "certificate.json").read_text()) for bits in BITS}


def test_each_export_is_packed_in_the_bits_asked_for_and_loads_again(exports):
    host, attempt = exports
    for bits in BITS:
        model = load_model(host.folder(attempt, f"q{bits}"), torch.float32)
        assert quantized_with(model.config) == "gptq"
        assert model.config.quantization_config.bits == bits
        packed = [name for name, module in model.named_modules() if hasattr(module, "qweight")]
        assert len(packed) == 2 * 7


@pytest.mark.parametrize(("bits", "rounding"), [(4, 0.02), (8, 0.001)])
def test_a_folder_of_4_or_8_bits_is_read_as_vllm_reads_it(exports, bits, rounding):
    """vllm 0.33.0, model_executor/layers/quantization/auto_gptq.py: whole words along the inputs, the lowest bits first, less
    2**(bits − 1), by the group's scale; zeros and g_idx are passed over. The logits are those of gptqmodel, whose kernel for 4
    bits computes in bf16 on a CPU.
    """
    host, attempt = exports
    folder = host.folder(attempt, f"q{bits}")
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["bits"], config["sym"], config["desc_act"]) == ("gptq", bits, True, False)
    assert config["group_size"] in (-1, 32, 64, 128)
    assert not config.get("dynamic")
    assert not config.get("lm_head")
    assert json.loads((folder / "quantize_config.json").read_text())["bits"] == bits
    packed = load_model(folder, torch.float32)
    plain = a_llama()
    plain.load_state_dict(unpacked(folder, bits, config["group_size"]))
    asked = torch.arange(2, 42).reshape(2, 20)
    with torch.no_grad():
        theirs, ours = packed.eval()(input_ids=asked).logits, plain.eval()(input_ids=asked).logits
    assert torch.allclose(theirs, ours, atol=rounding * float(theirs.abs().max()))


def unpacked(folder, bits, group):
    """The state of a plain model."""
    held = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    state = {name: tensor.float() for name, tensor in held.items() if name.endswith(".weight")}
    for name, qweight in held.items():
        if name.endswith(".qweight"):
            layer = name.removesuffix(".qweight")
            shifts = torch.arange(0, 32, bits)
            words = (qweight[:, None, :] >> shifts[:, None]) & (2**bits - 1)  # [N / per word, per word, M]
            values_NM = words.reshape(-1, qweight.shape[1]).float() - 2 ** (bits - 1)
            scales = held[f"{layer}.scales"].float().repeat_interleave(group, dim=0)
            state[f"{layer}.weight"] = (values_NM * scales).T.contiguous()
    return state


def test_more_bits_cost_more_and_lose_less(exports):
    found = certificates(exports)
    rows = [found[bits]["rate_distortion"] for bits in BITS]
    stored = [row["bits_per_weight"] for row in rows]
    lost = [found[bits]["kl_from_reference"]["mean"]["value"] for bits in BITS]
    for bits, row, kl in zip(BITS, rows, lost, strict=True):
        change = found[bits]["cross_entropy_change"]["value"]
        print(f"{bits} bits: {row['bits_per_weight']:.3f} a weight, KL {kl:.2e}, cross-entropy {change:+.2e} bits a token")
    assert stored == sorted(stored)
    assert all(bits < cost < bits + 1.2 for bits, cost in zip(BITS, stored, strict=True)), "with scales, zeros and order"
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < 1e-3
    assert all(row["gaussian_bound"] < row["weight_distortion"] < row["weight_variance"] for row in rows)


def test_nothing_in_an_export_says_where_it_was_made(exports):
    host, attempt = exports
    for file in host.folder(attempt, "q4").iterdir():
        assert str(host.root).encode() not in file.read_bytes(), file.name
        assert b"/tmp/" not in file.read_bytes(), file.name


def test_nothing_is_left_beside_it_or_where_the_process_was_started(exports):
    host, attempt = exports
    folder = host.folder(attempt, "q4")
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}
    assert not list(ROOT.glob("logs/gptq_log_*"))


def test_an_adapter_learns_on_each_of_them(exports):
    _, attempt = exports
    for bits in BITS:
        losses = attempt.losses(f"on{bits}")
        assert min(losses[-2:]) < losses[0], bits
