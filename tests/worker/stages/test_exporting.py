"""A step that exports: what it writes is the model that was trained, whole or not there."""

import errno
import hashlib
import json
import os
import resource
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job, add_judge, weights
from tests.worker.stages.killed import killed_at
from worker import checkpoints, disk
from worker.child import explained
from worker.export import publishing
from worker.export import weights as export_weights
from worker.failures import JobFailure
from worker.models import assembly, value_head
from worker.run import Run, Stopped
from worker.stages import exporting

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call

EXPORT = {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft", "export_dir": "pets"}}


@pytest.fixture
def lively(host, make_llama):
    """Its model has weights so large that each is in its answers."""
    shutil.rmtree(host.models / "tiny")
    host.add_model("tiny", make_llama(initializer_range=0.3))
    return host


def a_pipeline(*steps, **groups):
    return a_job(measures={"names": ""}, **groups) | {"steps": [{"name": "sft"}, *steps]}


def an_export(**groups):
    """A job of its own, of a model in the models folder."""
    model = {"model_name_or_path": "tiny"} | groups.pop("model", {})
    return {"do": "export", "model": model} | groups


def with_model(**model):
    return EXPORT | {"model": EXPORT["model"] | model}


def folder_of(host, attempt, step="export"):
    return host.folder(attempt, step)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=torch.arange(2, 22).reshape(2, 10)).logits


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_pipeline_ends_in_a_folder_that_others_load(lively):
    attempt = lively.done(a_pipeline(EXPORT))
    published = lively.root / "exports" / "pets"
    assert names_in(published) == names_in(folder_of(lively, attempt))
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= names_in(
        published
    )
    assert {"README.md", "Modelfile", "certificate.json", "export.json", "manifest.json"} <= names_in(published)
    base = AutoModelForCausalLM.from_pretrained(lively.models / "tiny")
    trained = PeftModel.from_pretrained(base, lively.folder(attempt, "sft"))
    written = AutoModelForCausalLM.from_pretrained(published)
    assert torch.allclose(logits(written), logits(trained), atol=1e-4)
    assert not torch.allclose(logits(written), logits(AutoModelForCausalLM.from_pretrained(lively.models / "tiny")), atol=1e-2)
    assert list((lively.root / "exports").iterdir()) == [published], "nothing else is left there"


def test_what_is_told_of_an_export(lively):
    attempt = lively.done(a_pipeline(EXPORT))
    (event,) = attempt.events("exported")
    folder = folder_of(lively, attempt)
    found = json.loads((folder / "certificate.json").read_text())
    assert event["data"]["certificate"] == found
    assert found["text"] == "held-out rows of pets"
    assert (found["n_documents"], found["passed"]) == (2, True)
    assert found["kl_from_reference"]["mean"]["value"] < 1e-6
    summary = attempt.of("step", "export")[0]
    assert summary["output"] == "job-1/1/export/checkpoint-0"
    assert summary["summary"]["export_dir"] == "pets"
    (told,) = attempt.of("checkpoint", "export")
    for file in told["files"]:
        assert hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert {file["name"] for file in told["files"]} == names_in(folder) - {"manifest.json"}
    assert checkpoints.is_complete(lively.root / "exports" / "pets")


def test_the_certificates_numbers_are_measures_of_the_step_too(lively):
    export = {"dtype": "bfloat16", "certificate_mean_kl": 1.0, "certificate_max_kl": 10.0}
    attempt = lively.done(a_pipeline(EXPORT | {"export": export}))
    rows, found = attempt.rows("export"), attempt.events("exported")[0]["data"]["certificate"]
    assert {measure for _, measure in rows} == {"cross_entropy", "kl_from_base", "kl_to_base"}
    assert rows[None, "cross_entropy"]["value"] == pytest.approx(found["cross_entropy_reference"]["value"])
    change, told = rows[0, "cross_entropy"]["versus_base"], found["cross_entropy_change"]
    assert (change["value"], change["standard_error"]) == pytest.approx((told["value"], told["standard_error"]))
    assert change["value"] != 0
    for name in ("kl_from_base", "kl_to_base"):
        mean = found[name.replace("base", "reference")]["mean"]
        assert rows[0, name]["value"] == pytest.approx(mean["value"])
        assert rows[0, name]["interval"] == pytest.approx(mean["interval"])


def test_the_card_and_the_record_say_what_it_was_made_of(lively):
    attempt = lively.done(a_pipeline(EXPORT))
    folder = folder_of(lively, attempt)
    card, record = (folder / "README.md").read_text(), json.loads((folder / "export.json").read_text())
    assert card.startswith('---\nlibrary_name: "transformers"\n')
    assert 'base_model: "tiny"\n' in card
    assert 'datasets: ["pets"]\n' in card
    assert "`tiny` + `@sft`, in float32" in card
    assert "| training.learning_rate | `0.01` |" in card
    assert "| finetuning.lora_rank | `2` |" in card
    assert (record["base"], record["adapters"], record["dtype"]) == ("tiny", ["@sft"], "float32")
    (trained,) = record["trained_by"]
    assert (trained["step"], trained["training"]["max_steps"]) == ("sft", 4)
    assert record["train_loss"] == pytest.approx(attempt.losses("sft")[-1])
    for name in names_in(folder):
        assert str(lively.root).encode() not in (folder / name).read_bytes(), f"{name} has a path of this host"


def test_the_chat_template_and_the_modelfile_are_those_it_was_trained_with(lively):
    folder = folder_of(lively, lively.done(a_pipeline(EXPORT)))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = [{"role": "user", "content": "what says the cat"}]
    assert tokenizer.apply_chat_template(said, tokenize=False) == "<s>Human: what says the cat\nAssistant:"
    ollama = (folder / "Modelfile").read_text()
    assert ollama.startswith('FROM .\nTEMPLATE """')
    assert "Human: {{ .Content }}\nAssistant:" in ollama
    assert ollama.endswith('PARAMETER stop "</s>"\n')


def test_a_tokenizers_own_chat_template_stays_where_it_writes_the_same(host):
    own = (
        "{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}"
        "{% if loop.previtem and loop.previtem.role == 'assistant' %}{{ '\\n' }}{% endif %}"
        "{{ 'Human: ' + m.content + '\\nAssistant:' }}{% elif m.role == 'assistant' %}{{ m.content + '</s>' }}"
        "{% else %}{{ m.content + '\\n' }}{% endif %}{% endfor %}"
    )
    tokenizer = AutoTokenizer.from_pretrained(host.models / "tiny")
    said = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]
    for template, stays in ((own, True), ("{{ 'another' }}", False)):
        tokenizer.chat_template = template
        tokenizer.save_pretrained(host.models / "tiny")
        written = AutoTokenizer.from_pretrained(host.folder(host.done(an_export(data={"template": "default"}))))
        assert (written.chat_template == template) is stays
        assert written.apply_chat_template(said, tokenize=False) == "<s>Human: b\nAssistant:c</s>\nHuman: d\nAssistant:"


def test_export_size_bounds_the_shards(host, monkeypatch):
    monkeypatch.setattr(export_weights, "GB", 20_000)
    for size, n_shards in ((1, 5), (3, 2), (100, 1)):
        folder = host.folder(host.done(an_export(model={"export_size": size})))
        shards = list(folder.glob("*.safetensors"))
        assert (len(shards) > 1) == (n_shards > 1)
        # the two embeddings alone are larger than the smallest shard
        assert all(shard.stat().st_size <= max(size * 20_000, 300 * 32 * 4) + 4_000 for shard in shards)
        assert torch.equal(
            logits(AutoModelForCausalLM.from_pretrained(folder)),
            logits(AutoModelForCausalLM.from_pretrained(host.models / "tiny")),
        )


@pytest.mark.parametrize("gb", [20_000, 10**9])
def test_export_legacy_format_writes_torchs_own_files_that_hold_tensors_only(host, monkeypatch, gb):
    monkeypatch.setattr(export_weights, "GB", gb)
    folder = host.folder(host.done(an_export(model={"export_legacy_format": True})))
    bins = sorted(folder.glob("*.bin"))
    assert not list(folder.glob("*.safetensors*"))
    held = {name: tensor for file in bins for name, tensor in torch.load(file, weights_only=True).items()}
    assert held.keys() == weights(host.models / "tiny").keys()
    if gb == 20_000:
        index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
        assert index["weight_map"].keys() == held.keys()
        assert set(index["weight_map"].values()) == {file.name for file in bins}
        assert len(bins) > 1
    else:
        assert [file.name for file in bins] == ["pytorch_model.bin"]
    written = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(written), logits(AutoModelForCausalLM.from_pretrained(host.models / "tiny")))


def test_the_type_of_the_files_is_kept_or_the_one_that_is_asked_for(host, make_llama):
    host.add_model("half", make_llama().to(torch.bfloat16))
    dtypes = {}
    for dtype in ("auto", "float32", "float16"):
        spec = an_export(model={"model_name_or_path": "half"}, export={"dtype": dtype, "certificate_mean_kl": 0.1})
        written = host.folder(host.done(spec))
        dtypes[dtype] = {tensor.dtype for tensor in weights(written).values()}
        assert json.loads((written / "export.json").read_text())["dtype"] == str(next(iter(dtypes[dtype]))).split(".")[1]
    assert dtypes == {"auto": {torch.bfloat16}, "float32": {torch.float32}, "float16": {torch.float16}}


def test_an_adapter_is_exported_by_itself_when_asked(lively):
    step = EXPORT | {"export": {"adapter_only": True}}
    attempt = lively.done(a_pipeline(step))
    folder = lively.root / "exports" / "pets"
    assert not list(folder.glob("model*"))
    assert "optimizer.pt" not in names_in(folder)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    assert weights(folder).keys() == weights(lively.folder(attempt, "sft")).keys()
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(lively.models / "tiny"), folder)
    kept = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(lively.models / "tiny"), lively.folder(attempt, "sft"))
    assert torch.equal(logits(trained), logits(kept))
    assert not (folder / "Modelfile").exists(), "Ollama refuses ADAPTER"


def test_what_is_exported_is_a_model_for_later_steps(lively):
    measured = {"name": "later", "do": "measure", "measures": {"names": "cross_entropy", "checkpoints": "@sft,@export"}}
    on_it = {
        "name": "as_model",
        "do": "measure",
        "model": {"model_name_or_path": "@export"},
        "measures": {"names": "cross_entropy"},
    }
    attempt = lively.done(a_pipeline(with_model(export_dir=None), measured, on_it))
    rows = attempt.rows("later")
    assert rows[2, "cross_entropy"]["value"] == pytest.approx(rows[1, "cross_entropy"]["value"], rel=1e-5)
    assert rows[1, "cross_entropy"]["value"] < rows[None, "cross_entropy"]["value"]
    assert attempt.rows("as_model")[1, "cross_entropy"]["value"] == pytest.approx(rows[1, "cross_entropy"]["value"], rel=1e-5)
    assert not (lively.root / "exports").exists(), "without an export_dir there are the artifacts alone"


def test_a_checkpoint_of_an_earlier_job_is_exported_by_its_name(lively):
    steps = [{"name": "first"}, {"name": "second", "model": {"model_name_or_path": "@first"}}]
    document = a_job(measures={"names": ""}) | {"steps": steps}
    trained = lively.done(document)
    job_id = lively.remember(document, trained)
    written = lively.folder(lively.done(an_export(model={"model_name_or_path": f"{job_id}/second/2"})))
    base = AutoModelForCausalLM.from_pretrained(lively.models / "tiny")
    merged = PeftModel.from_pretrained(base, lively.folder(trained, "first")).merge_and_unload()
    expected = PeftModel.from_pretrained(merged, lively.artifacts / "job-1/1/second/checkpoint-2")
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(written)), logits(expected), atol=1e-4)
    record = json.loads((written / "export.json").read_text())
    assert [made["step"] for made in record["trained_by"]] == [f"{job_id}/first", f"{job_id}/second"]
    assert record["base"] == "tiny"
    with pytest.raises(JobFailure, match=f"{job_id}/second/3' is not there") as failure:
        lively.done(an_export(model={"model_name_or_path": f"{job_id}/second/3"}))
    assert failure.value.reason == Reason.MISSING_MODEL


def test_a_model_that_trained_whole_is_exported_too(host):
    document = a_pretraining_job(measures={"names": ""}) | {"steps": [{"name": "pt"}, with_model(model_name_or_path="@pt/2")]}
    attempt = host.done(document)
    published = host.root / "exports" / "pets"
    made = weights(host.artifacts / "job-1/1/pt/checkpoint-2")
    assert all(torch.equal(tensor, made[name]) for name, tensor in weights(published).items())
    assert not (names_in(published) & {"optimizer.pt", "trainer_state.json", "rng_state.pth"})
    found = json.loads((published / "certificate.json").read_text())
    assert found["text"] == "held-out rows of texts"
    assert attempt.error is None


def test_a_value_head_goes_along(host, make_llama):
    add_judge(host, "judge", make_llama())
    written = host.folder(host.done(an_export(model={"model_name_or_path": "judge"})))
    before, after = value_head.load(host.models / "judge", 32), value_head.load(written, 32)
    assert torch.equal(before.summary.weight, after.summary.weight)


def test_without_data_the_certificate_is_taken_on_drawn_tokens_and_says_so(host):
    attempt = host.done(an_export())
    found = json.loads((host.folder(attempt) / "certificate.json").read_text())
    assert found["text"] == "16 sequences of tokens drawn at random with seed 0"
    (notice,) = attempt.notices()
    assert "no data set is named" in notice


def test_certificate_documents_bounds_the_text(host):
    data = {"dataset": "pets", "template": "default", "cutoff_len": 64}
    found = [
        json.loads(
            (host.folder(host.done(an_export(data=data, export={"certificate_documents": n}))) / "certificate.json").read_text()
        )
        for n in (3, 64)
    ]
    assert [(each["n_documents"], each["text"]) for each in found] == [(3, "rows of pets"), (12, "rows of pets")]


# -- what must not leave ------------------------------------------------------------------------------------------------


def nothing_is_left(host):
    kept = [path for path in host.artifacts.rglob("*") if path.is_file() and "/export/" in str(path)]
    published = [path for path in (host.root / "exports").rglob("*") if path.is_file()]
    return kept + published == []


def test_a_merge_that_is_wrong_is_caught_and_nothing_is_kept(lively, monkeypatch):
    merged = assembly.merged_as_held
    monkeypatch.setattr(assembly, "merged_as_held", lambda model, adapters: merged(model, (*adapters, *adapters)))
    attempt = lively.attempt(a_pipeline(EXPORT))
    assert attempt.error.reason == Reason.CERTIFICATE_FAILED
    assert attempt.error.sentence.startswith("What was written is not what was trained: the mean D(trained‖written) is ")
    assert attempt.of("checkpoint", "export") == []
    assert nothing_is_left(lively)


def test_a_shard_that_is_damaged_on_its_way_is_caught_and_nothing_is_kept(lively, monkeypatch):
    write = export_weights.write

    def damaged(model, folder, *rest):
        hashed = write(model, folder, *rest)
        file = folder / "model.safetensors"
        whole = bytearray(file.read_bytes())
        middle = len(whole) // 2
        whole[middle : middle + 4096] = bytes(4096)
        file.write_bytes(whole)
        return hashed

    monkeypatch.setattr(export_weights, "write", damaged)
    attempt = lively.attempt(a_pipeline(EXPORT))
    assert attempt.error.reason == Reason.CERTIFICATE_FAILED
    assert nothing_is_left(lively)


@pytest.mark.parametrize("limit", ["certificate_mean_kl", "certificate_max_kl"])
def test_each_limit_fails_an_export_that_is_beyond_it(lively, limit):
    export = {"dtype": "bfloat16", "certificate_mean_kl": 1.0, "certificate_max_kl": 10.0}
    assert lively.done(an_export(export=export)).error is None
    attempt = lively.attempt(an_export(export=export | {limit: 1e-9}))
    assert attempt.error.reason == Reason.CERTIFICATE_FAILED
    assert "1e-09 are allowed" in attempt.error.sentence


# -- over an earlier one ------------------------------------------------------------------------------------------------


def test_an_export_that_is_there_is_replaced_only_when_asked(lively):
    first = an_export(model={"export_dir": "pets"})
    lively.done(first)
    before = names_in(lively.root / "exports" / "pets")
    folder = lively.root / "exports" / "pets"
    (folder / "of_mine.txt").write_text("kept")
    record = json.loads((folder / "export.json").read_text()) | {"job_id": "job-0"}
    (folder / "export.json").write_text(json.dumps(record))
    attempt = lively.attempt(first)
    assert attempt.error.reason == Reason.EXPORT_EXISTS
    assert "'pets' already" in attempt.error.sentence
    assert (folder / "of_mine.txt").exists()
    lively.done(first | {"export": {"overwrite": True}})
    assert names_in(folder) == before
    assert list((lively.root / "exports").iterdir()) == [folder]


def test_what_a_killed_attempt_left_is_finished_by_the_next(lively):
    def stop_after(kind):
        def when(message, run):
            if message["message"] == kind and message.get("step") == "export":
                run.wish = "stop"

        return when

    document = a_pipeline(EXPORT)
    first = lively.attempt(document, when=stop_after("checkpoint"))
    assert isinstance(first.error, Stopped)
    assert not (lively.root / "exports" / "pets").exists()
    staging = lively.root / "exports" / ".pets.job-1.export"
    staging.mkdir(parents=True)
    (staging / "model.safetensors").write_bytes(b"half")
    second = lively.done(document, [first])
    assert second.of("checkpoint", "export") == [], "what was written and proved is not written again"
    assert second.of("step", "export")[0]["output"] == "job-1/1/export/checkpoint-0"
    assert checkpoints.is_complete(lively.root / "exports" / "pets")
    # and one that was killed behind the rename finds its own
    without_end = [message for message in second.messages if message.get("step") != "export" or message["message"] != "step"]
    second.messages[:] = without_end
    third = lively.done(document, [first, second])
    assert third.of("step", "export")
    assert list((lively.root / "exports").iterdir()) == [lively.root / "exports" / "pets"]


PLACES = {
    "its weights are written": (export_weights, "write"),
    "it is proved": (exporting, "certify"),
    "it is sealed": (checkpoints, "seal"),
    "it is told of": (Run, "checkpoint"),
    "it is copied": (publishing, "_copy"),
    "it has its name": (publishing, "_move"),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_attempt_that_is_killed_anywhere_is_finished_by_the_next(host, place):
    document = an_export(model={"export_dir": "pets"})
    first = killed_at(host, document, *PLACES[place], behind=True)
    published = host.root / "exports" / "pets"
    assert checkpoints.is_complete(published) == (place == "it has its name"), "whole, or not there"
    assert published.exists() == (place == "it has its name")
    second = host.done(document, [first])
    assert checkpoints.is_complete(published)
    assert [*published.parent.iterdir()] == [published]
    told = {name for attempt in (first, second) for name in [message["path"] for message in attempt.of("checkpoint")]}
    assert second.of("step")[0]["output"] in told
    assert len(told) == 1


DEAF = {
    "it is merged and written": ("exporting", export_weights, "write"),
    "it is proved": ("certifying", exporting, "certify"),
    "it is sealed": ("certifying", checkpoints, "seal"),
}


@pytest.mark.parametrize("while_", DEAF)
def test_a_wish_is_heard_in_the_midst_of_work_that_would_never_end(host, monkeypatch, while_):
    phase, owner, name = DEAF[while_]
    monkeypatch.setattr(owner, name, lambda *what, **named: for_ever())

    def cancel(message, run):
        if message["message"] == "progress" and message["progress"].get("phase") == phase:
            threading.Timer(0.1, setattr, (run, "wish", "cancel")).start()

    attempt = host.attempt(an_export(model={"export_dir": "pets"}), when=cancel)
    assert isinstance(attempt.error, Stopped)
    assert nothing_is_left(host)


def for_ever():
    while True:
        time.sleep(0.01)


def test_a_disk_without_room_ends_it_before_anything_is_written(host, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: -1)
    attempt = host.attempt(an_export(model={"export_dir": "pets"}))
    assert attempt.error.reason == Reason.OUT_OF_DISK
    assert attempt.error.sentence.startswith("The export would take ")
    assert nothing_is_left(host)


@pytest.mark.parametrize("name", ["config.json", "README.md", "manifest.json"])
def test_a_disk_that_fills_in_its_midst_leaves_nothing(host, monkeypatch, name):
    """Whatever the check before had seen: other programs write, too."""
    write = Path.write_text

    def full(path, *arguments, **named):
        if path.name.endswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments, **named)

    save = PretrainedConfig.save_pretrained
    monkeypatch.setattr(Path, "write_text", full)
    if name == "config.json":
        monkeypatch.setattr(PretrainedConfig, "save_pretrained", lambda self, folder, **_: full(Path(folder, name), ""))
    attempt = host.attempt(an_export(model={"export_dir": "pets"}))
    assert explained(attempt.error).reason == Reason.OUT_OF_DISK
    assert nothing_is_left(host)
    monkeypatch.undo()
    assert PretrainedConfig.save_pretrained is save
    host.done(an_export(model={"export_dir": "pets"}), [attempt])
    assert checkpoints.is_complete(host.root / "exports" / "pets")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_may_not_grow_further_ends_it_and_leaves_nothing(host, legacy):
    """The limit is the system's own, so what is raised is what the libraries make of it."""
    document = an_export(model={"export_dir": "pets", "export_legacy_format": legacy})
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        error = host.attempt(document).error
        os._exit(0 if error is not None and explained(error).reason == Reason.OUT_OF_DISK else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert nothing_is_left(host)
    host.done(document)
    assert checkpoints.is_complete(host.root / "exports" / "pets")


def test_another_host_fetches_what_was_written_and_publishes_it(host):
    host.store_url = f"file://{host.root}/store"
    document = an_export(model={"export_dir": "pets"})
    first = host.done(document)
    first.messages[:] = [message for message in first.messages if message["message"] != "step"]
    shutil.rmtree(host.root / "exports")
    shutil.rmtree(host.artifacts)
    host.artifacts.mkdir()
    second = host.done(document, [first])
    assert second.notices() == ["export: checkpoint 0 was fetched from the artifact store."]
    assert checkpoints.is_complete(host.root / "exports" / "pets")


# -- bad input ----------------------------------------------------------------------------------------------------------


def test_an_adapter_of_another_base_is_refused(host, make_llama):
    host.add_model("wide", make_llama(hidden_size=48))
    attempt = host.done(a_job(measures={"names": ""}, training={"max_steps": 1}))
    shutil.copytree(host.folder(attempt), host.models / "of-tiny")
    error = host.attempt(an_export(model={"model_name_or_path": "wide", "adapter_name_or_path": "of-tiny"})).error
    assert error.reason == Reason.BAD_MODEL
    assert "'of-tiny' was made on 'tiny' and does not fit the model 'wide'" in error.sentence
    assert nothing_is_left(host)


def test_a_tokenizer_that_does_not_fit_is_refused(host, make_llama):
    host.add_model("small", make_llama(vocab_size=200))
    error = host.attempt(an_export(model={"model_name_or_path": "small"})).error
    assert error.reason == Reason.BAD_MODEL
    assert "The tokenizer has 300 tokens, and the model 'small' has a vocabulary of 200" in error.sentence
    assert nothing_is_left(host)


def test_a_quantized_model_is_not_exported(host, make_llama):
    config = json.loads((host.models / "tiny" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (host.models / "tiny" / "config.json").write_text(json.dumps(config))
    error = host.attempt(an_export()).error
    assert error.reason == Reason.BAD_MODEL
    assert "'tiny' is quantized (bitsandbytes)" in error.sentence


def test_an_adapter_that_lies_on_another_is_not_exported_alone(host):
    steps = [{"name": "first"}, {"name": "second", "model": {"model_name_or_path": "@first"}}]
    document = a_job(measures={"names": ""}, training={"max_steps": 1}) | {"steps": steps}
    job_id = host.remember(document, host.done(document))
    spec = an_export(model={"model_name_or_path": f"{job_id}/second"}, export={"adapter_only": True})
    error = host.attempt(spec).error
    assert error.reason == Reason.BAD_MODEL
    assert "There are 2 adapters, one on another" in error.sentence
