import json
import math

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from worker.probes.token import (
    OF_NUMBERS,
    Base,
    Document,
    DocumentSums,
    adapter_off,
    final_hidden_states,
    head_of,
    measure,
    measure_base,
)

# peft asks transformers for a property by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

VOCABULARY = 64
SIZE = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.3,  # far from uniform, so that the transforms of the logits matter
)
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=1, eos_token_id=2)
    ),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZE, head_dim=8, final_logit_softcapping=2.0)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SIZE, **SPECIAL, logit_scale=0.25)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZE, logits_scaling=3.0)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZE)),
}


def a_model(family="llama", seed=0):
    torch.manual_seed(seed)
    model = FAMILIES[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lm_head.bias"):
                parameter.normal_()
    return model


def some_documents(lengths=(9, 4, 17, 2, 12), seed=0):
    """The first third of each document is its prompt, and is not scored."""
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for length in lengths:
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        documents.append(Document(ids, [-100] * (length // 3) + ids[length // 3 :], n_bytes=3 * length))
    return documents


def an_adapted_model(perturbed=True, family="llama", **options):
    model = get_peft_model(a_model(family), LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"]} | options))
    if perturbed:
        torch.manual_seed(9)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
def by_brute_force(model, documents):
    """log p of every document over the whole vocabulary in float64, from the model's own logits, one document at a time."""
    was_training = model.training
    model.eval()
    rows = [torch.log_softmax(model(input_ids=torch.tensor([d.input_ids])).logits[0].double(), -1) for d in documents]
    model.train(was_training)
    return [lp[[t - 1 for t in d.scored]] for lp, d in zip(rows, documents, strict=True)]


def close(values, expected, tolerance=1e-5):
    return values == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_of_the_hidden_states_is_the_models_logits(family):
    model, documents = a_model(family), some_documents()
    hidden_ND, head = final_hidden_states(model, documents, batch_tokens=40), head_of(model, VOCABULARY)
    expected = torch.cat(by_brute_force(model, documents))
    made = torch.log_softmax(head.logits(hidden_ND).double(), -1)
    assert (made - expected).abs().max() < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_nll_is_the_models_own_loss(family):
    model, documents = a_model(family).eval(), some_documents()
    sums = measure(model, documents, VOCABULARY)
    nats = 0.0
    for document in documents:
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([document.input_ids]), labels=torch.tensor([document.labels])).loss
        nats += loss.item() * len(document.scored)
    assert sum(sums.n_tokens) == sum(len(d.scored) for d in documents)
    assert sum(sums.nll) * math.log(2) / sum(sums.n_tokens) == pytest.approx(nats / sum(sums.n_tokens), abs=1e-5)


def test_entropy_by_brute_force():
    model, documents = a_model(), some_documents()
    expected = [-(lp.exp() * lp).sum().item() / math.log(2) for lp in by_brute_force(model, documents)]
    assert close(measure(model, documents, VOCABULARY).entropy, expected)


ADAPTERS = {
    "attention": {},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "head with a bias": {"target_modules": ["lm_head"], "family": "phi"},
    "head with a bias of LoRA's": {"target_modules": ["lm_head"], "family": "phi", "lora_bias": True},
    "DoRA head": {"target_modules": ["q_proj", "lm_head"], "use_dora": True},
    "saved head": {"modules_to_save": ["lm_head"]},
    "dropout": {"target_modules": ["q_proj", "lm_head"], "lora_dropout": 0.5},
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_fresh_adapter_is_no_divergence_from_its_base(adapter):
    model, documents = an_adapted_model(perturbed=False, **ADAPTERS[adapter]), some_documents()
    with adapter_off(model):
        base = Base.of(model, documents, VOCABULARY)
    sums = measure(model, documents, VOCABULARY, base)
    assert max(map(abs, sums.kl_from_base + sums.kl_to_base)) < 1e-6


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_divergences_of_an_adapter_by_brute_force(adapter):
    model, documents = an_adapted_model(**ADAPTERS[adapter]), some_documents()
    with adapter_off(model):
        base, q = Base.of(model, documents, VOCABULARY), by_brute_force(model, documents)
    p = by_brute_force(model, documents)
    sums = measure(model, documents, VOCABULARY, base)
    kl_from_base = [(lq.exp() * (lq - lp)).sum().item() / math.log(2) for lp, lq in zip(p, q, strict=True)]
    kl_to_base = [(lp.exp() * (lp - lq)).sum().item() / math.log(2) for lp, lq in zip(p, q, strict=True)]
    assert min(kl_from_base) > 1e-3
    assert close(sums.kl_from_base, kl_from_base)
    assert close(sums.kl_to_base, kl_to_base)


def test_a_merged_adapter_measures_as_before_and_its_base_too():
    model, documents = an_adapted_model(target_modules=["q_proj", "lm_head"]), some_documents()
    before = measure(model, documents, VOCABULARY)
    with adapter_off(model):
        base_before = measure(model, documents, VOCABULARY)
    model.merge_adapter()
    assert close(measure(model, documents, VOCABULARY).nll, before.nll)
    with adapter_off(model):
        # asked before any forward pass, while the merged product is still in the weight
        assert torch.allclose(head_of(model, VOCABULARY).weight_VD, a_model().lm_head.weight, atol=1e-6)
        assert close(measure(model, documents, VOCABULARY).nll, base_before.nll)


def test_the_adapter_is_on_again_after_adapter_off():
    model, documents = an_adapted_model(), some_documents()
    before = measure(model, documents, VOCABULARY)
    with adapter_off(model):
        assert measure(model, documents, VOCABULARY).nll != before.nll
    assert measure(model, documents, VOCABULARY).nll == before.nll


def test_a_base_stays_when_full_training_moves_the_model():
    model, documents = a_model(), some_documents()
    base = Base.of(model, documents, VOCABULARY)
    before = measure_base(base, documents)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert measure_base(base, documents) == before
    assert min(measure(model, documents, VOCABULARY, base).kl_from_base) > 1e-3


def test_a_base_that_is_a_saved_head_as_it_stands_stays_too():
    model, documents = an_adapted_model(modules_to_save=["lm_head"]), some_documents()
    base = Base.of(model, documents, VOCABULARY)
    before = measure_base(base, documents)
    with torch.no_grad():
        model.get_base_model().lm_head.modules_to_save["default"].weight.mul_(2)
    assert measure_base(base, documents) == before


def test_measure_base_is_measure_with_no_divergence():
    model, documents = a_model(), some_documents()
    base, sums = Base.of(model, documents, VOCABULARY), measure(model, documents, VOCABULARY)
    of_base = measure_base(base, documents)
    assert (of_base.nll, of_base.entropy, of_base.n_bytes) == (sums.nll, sums.entropy, sums.n_bytes)
    assert of_base.kl_from_base == of_base.kl_to_base == [0.0] * 5
    assert sums.kl_from_base is None
    assert sums.kl_to_base is None


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_padding_and_company_do_not_change_a_document(family):
    model, documents = a_model(family), some_documents()
    together = measure(model, documents, VOCABULARY)
    for i, document in enumerate(documents):
        alone = measure(model, [document], VOCABULARY)
        assert close(together.nll[i], alone.nll[0])
        assert close(together.entropy[i], alone.entropy[0])


def test_the_size_of_batches_changes_only_the_batches():
    model, documents = a_model(), some_documents()
    shapes = []
    model.model.register_forward_hook(lambda _m, _a, k, _o: shapes.append(tuple(k["input_ids"].shape)), with_kwargs=True)
    one, many = final_hidden_states(model, documents, batch_tokens=24), final_hidden_states(model, documents)
    assert shapes == [(1, 17), (2, 12), (2, 4), (5, 17)]
    assert torch.allclose(one, many, atol=1e-5)


def test_documents_in_another_order_give_their_sums_in_that_order():
    model, documents = a_model(), some_documents()
    sums, reverse = measure(model, documents, VOCABULARY), measure(model, documents[::-1], VOCABULARY)
    assert close(sums.nll, reverse.nll[::-1])
    assert sums.n_tokens == reverse.n_tokens[::-1]


def test_bytes_are_the_documents_own():
    assert measure(a_model(), some_documents(), VOCABULARY).n_bytes == [27, 12, 51, 6, 36]


def test_each_module_is_in_the_mode_it_was_in():
    model, documents = a_model().train(), some_documents()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    measure(model, documents, VOCABULARY)
    assert [module.training for module in model.modules()] == before
    assert model.config.use_cache is True


def test_dropout_is_off():
    model, documents = an_adapted_model(lora_dropout=0.9).train(), some_documents()
    assert measure(model, documents, VOCABULARY) == measure(model, documents, VOCABULARY)


def test_a_document_with_nothing_scored_contributes_zeros():
    model, documents = a_model(), some_documents()
    sums = measure(model, documents, VOCABULARY)
    silent = [Document([5, 6, 7], [-100] * 3, 0), Document([5], [5], 1), Document([], [], 0)]
    mixed = measure(model, [silent[0], *documents, *silent[1:]], VOCABULARY, Base.of(model, [silent[0], *documents], VOCABULARY))
    assert close(mixed.nll, [0.0, *sums.nll, 0.0, 0.0])
    assert mixed.n_tokens == [0, *sums.n_tokens, 0, 0]
    assert mixed.kl_to_base == [0.0] * 8
    assert measure(model, silent, VOCABULARY).nll == [0.0, 0.0, 0.0]
    assert measure(model, [], VOCABULARY).nll == []


def test_the_first_token_is_never_scored():
    ids = [5, 6, 7]
    assert Document(ids, ids, 3).scored == [1, 2]


def test_padded_rows_of_the_vocabulary_get_no_probability():
    model, documents = a_model(), some_documents()
    documents = [Document([i % 50 for i in d.input_ids], [i % 50 if i > 0 else i for i in d.labels], 1) for d in documents]
    expected = []
    for document, lp in zip(documents, by_brute_force(model, documents), strict=True):
        real = lp[:, :50].log_softmax(-1)
        expected.append(-sum(real[i, document.labels[t]].item() for i, t in enumerate(document.scored)) / math.log(2))
    assert close(measure(model, documents, 50).nll, expected)


def test_bf16_models_are_measured_from_fp32_logits():
    model, documents = a_model().bfloat16(), some_documents()
    hidden_ND = final_hidden_states(model, documents)
    assert hidden_ND.dtype == torch.bfloat16
    lp = torch.log_softmax(hidden_ND.double() @ model.lm_head.weight.double().T, -1)
    expected = -(lp.exp() * lp).sum().item() / math.log(2)
    assert sum(measure(model, documents, VOCABULARY).entropy) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("scale", "huge", "certain"), [(1.0, False, False), (1e3, False, True), (5e3, True, True)])
def test_tokens_are_counted_where_logits_and_probabilities_reach_the_ends_of_fp32(scale, huge, certain):
    model, documents = a_model(), some_documents(lengths=(9, 12))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    z = [model(input_ids=torch.tensor([d.input_ids])).logits[0, [t - 1 for t in d.scored]].double() for d in documents]
    sums = measure(model, documents, VOCABULARY, want=OF_NUMBERS)
    assert sums.huge_logits == [float((rows.abs() > 1e4).any(-1).sum()) for rows in z]
    held = [(rows.softmax(-1).max(-1).values >= 1 - 2**-24) for rows in z]
    assert sums.certain == [float(rows.sum()) for rows in held]
    targets = [torch.tensor([d.labels[t] for t in d.scored]) for d in documents]
    wrong = [float((sure & (rows.argmax(-1) != y)).sum()) for sure, rows, y in zip(held, z, targets, strict=True)]
    assert sums.certain_errors == wrong
    assert (any(sums.huge_logits), any(sums.certain), any(sums.certain_errors)) == (huge, certain, certain)


def test_sums_survive_json():
    model, documents = a_model(), some_documents()
    for sums in (measure(model, documents, VOCABULARY), measure_base(Base.of(model, documents, VOCABULARY), documents)):
        assert DocumentSums.from_json(json.loads(json.dumps(sums.to_json()))) == sums


def test_a_model_that_diverged_is_measured_as_not_a_number():
    model, documents = a_model(), some_documents()
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    sums = measure(model, documents, VOCABULARY)
    assert all(map(math.isnan, sums.nll))
    kept = json.loads(json.dumps(sums.to_json(), allow_nan=False))
    assert kept["nll"] == [None] * 5
    assert all(map(math.isnan, DocumentSums.from_json(kept).nll))


def test_another_vocabulary_is_refused():
    model, documents = a_model(), some_documents()
    base = Base.of(model, documents, 60)
    with pytest.raises(ValueError, match="measure without a base"):
        measure(model, documents, VOCABULARY, base)


def test_a_model_that_makes_its_logits_otherwise_is_refused():
    model, documents = a_model(), some_documents()
    model.lm_head.register_forward_hook(lambda _m, _a, logits: logits * 1.1)
    with pytest.raises(ValueError, match="makes its logits in a way that is not known here"):
        measure(model, documents, VOCABULARY)


def test_only_an_adapter_can_be_switched_off():
    with pytest.raises(ValueError, match="before training starts"):
        adapter_off(a_model())


def test_a_learned_prompt_is_refused():
    model = get_peft_model(a_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match="prompt that is learned"):
        measure(model, some_documents(), VOCABULARY)


def test_labels_and_tokens_go_together():
    with pytest.raises(ValueError, match="each token needs its own"):
        Document([1, 2, 3], [1, 2], 3)
