import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.loading import load_model, load_tokenizer, refuse_small_vocabulary


@pytest.fixture
def folder(tmp_path, make_llama, tokenizer_folder):
    """A whole model on disk, with its tokenizer beside it."""
    folder = tmp_path / "tiny"
    shutil.copytree(tokenizer_folder, folder)
    make_llama().save_pretrained(folder)
    return folder


def refusal(function, *arguments) -> JobFailure:
    with pytest.raises(JobFailure) as caught:
        function(*arguments)
    return caught.value


def refused_model(folder, reason=Reason.BAD_MODEL) -> JobFailure:
    failure = refusal(load_model, folder, torch.float32)
    assert failure.reason == reason
    assert str(folder) not in failure.sentence, "a path on this host is nobody's business"
    return failure


def edit_json(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def as_bin(folder) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def test_the_tokenizer_pads_on_the_right_with_eos_where_it_has_no_pad(folder):
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", "</s>")
    assert (tokenizer.bos_token, tokenizer.split_special_tokens) == ("<s>", False)


def test_a_pad_token_of_its_own_is_kept(folder):
    edit_json(folder / "tokenizer_config.json", pad_token="<s>")
    assert load_tokenizer(folder).pad_token == "<s>"


def test_special_tokens_are_split_when_asked(folder):
    def ids(split):
        return load_tokenizer(folder, split)("</s>", add_special_tokens=False)["input_ids"]

    assert ids(False) == [1]
    assert 1 not in ids(True)
    assert len(ids(True)) > 1


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path, folder):
    assert refusal(load_tokenizer, tmp_path / "nowhere").reason == Reason.MISSING_MODEL
    (folder / "tokenizer.json").unlink()
    failure = refusal(load_tokenizer, folder)
    assert failure.reason == Reason.BAD_MODEL
    assert failure.sentence.startswith("The model 'tiny' has no usable tokenizer: ")


def test_a_tokenizer_that_cannot_be_read_is_refused(folder):
    (folder / "tokenizer.json").write_text("{")
    assert refusal(load_tokenizer, folder).reason == Reason.BAD_MODEL


def test_a_tokenizer_without_eos_is_refused(folder):
    edit_json(folder / "tokenizer_config.json", eos_token=None)
    assert "no end-of-sequence token" in refusal(load_tokenizer, folder).sentence


def test_a_model_has_the_weights_of_its_files_in_the_type_asked_for(folder, make_llama):
    model = load_model(folder, torch.bfloat16)
    expected = make_llama().to(torch.bfloat16).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shards_are_read_and_a_missing_one_is_named(folder, make_llama):
    (folder / "model.safetensors").unlink()
    make_llama().save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    load_model(folder, torch.float32)
    shards[1].unlink()
    failure = refused_model(folder)
    assert failure.where == {"file": shards[1].name}
    assert shards[1].name in failure.sentence


def test_bin_weights_are_read_as_tensors_only(folder, make_llama):
    as_bin(folder)
    expected = make_llama().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_model(folder, torch.float32).state_dict().items())


class Payload:
    def __reduce__(self):
        return pytest.fail, ("the pickle was run",)


def test_a_pickle_in_the_weights_is_not_run(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Payload()}, folder / "pytorch_model.bin")
    assert refused_model(folder).where == {"file": "pytorch_model.bin"}
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    assert refused_model(folder).where == {"file": "pytorch_model.bin"}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_weights_that_are_cut_off_are_refused_by_name(folder, name, keep):
    if name == "pytorch_model.bin":
        as_bin(folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    failure = refused_model(folder)
    assert failure.where == {"file": name}
    assert f"The weights file {name} of the model 'tiny' cannot be read" in failure.sentence


def test_a_weight_that_is_missing_is_never_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    sentence = "The weights of the model 'tiny' (model.safetensors) lack model.layers.1.mlp.up_proj.weight."
    assert refused_model(folder).sentence == sentence


def test_a_weight_of_another_shape_is_refused(folder):
    edit_json(folder / "config.json", intermediate_size=128)
    assert "cannot be loaded" in refused_model(folder).sentence


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "has no weights" in refused_model(folder).sentence


def test_a_model_that_is_not_there_is_refused(tmp_path):
    refused_model(tmp_path / "nowhere", Reason.MISSING_MODEL)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "nonsense"}, "model type `nonsense`"),
        ({"model_type": "zzz", "auto_map": {"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"}}, "custom code"),
        ({"vocab_size": 200}, "cannot be loaded"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, changes, says):
    edit_json(folder / "config.json", **changes)
    assert says in refused_model(folder).sentence


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/passwd", "below/model.safetensors"])
def test_a_shard_that_lies_elsewhere_is_not_read(folder, shard):
    shutil.copytree(folder, folder.parent / "other")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    failure = refused_model(folder)
    assert failure.where == {"file": "model.safetensors.index.json"}
    assert "no file's name" in failure.sentence


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_that_a_model_names_is_not_fetched(folder, name):
    """transformers takes a name with a slash for a repository, whose code it would run."""
    edit_json(folder / "config.json", **{name: "someone/kernel"})
    model = load_model(folder, torch.float32)
    assert model.config._attn_implementation == "sdpa"
    assert model.config._experts_implementation != "someone/kernel"


def test_code_that_comes_with_a_model_of_a_known_type_is_not_run(folder):
    (folder / "modeling_tiny.py").write_text("raise SystemExit('the code was run')")
    classes = {name: f"modeling_tiny.{name}" for name in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")}
    edit_json(folder / "config.json", auto_map=classes)
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_tiny.AutoTokenizer", None]})
    load_tokenizer(folder)
    assert type(load_model(folder, torch.float32)).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("content", "says"), [("{", "not valid JSON"), ("[]", "must be an object"), (None, "has no config.json")]
)
def test_a_config_that_is_none_is_refused(folder, content, says):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    failure = refused_model(folder)
    assert failure.where == {"file": "config.json"}
    assert says in failure.sentence


def test_an_adapter_is_not_a_model(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    assert "is an adapter, not a whole model" in refused_model(folder).sentence


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder, tokenizer):
    tokenizer.add_tokens(["<one more>"])
    failure = refusal(refuse_small_vocabulary, folder, load_model(folder, torch.float32), tokenizer)
    assert failure.sentence == (
        "The tokenizer has 301 tokens, and the model 'tiny' has a vocabulary of 300: they do not match. "
        "With resize_vocab the model grows a row for each token."
    )
