"""A host in a folder: jobs from a document, run in this process on a pipe that remembers, and handed on as a supervisor would."""

import gc
import json
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import orjson
import torch
from safetensors.torch import load_file

from service.specs.read import read_job
from service.specs.tokens import tokens as tokens_of
from worker import child, pipeline
from worker.models import value_head
from worker.models.value_head import ValueHead
from worker.run import Run
from worker.work import Work

JOB = "job-1"


class Pipe:
    """The child's end: keeps what was said, and lets a test answer to it."""

    def __init__(self):
        self.messages = []
        self.run = None
        self.when = None

    def send_bytes(self, buf):
        message = orjson.loads(buf)
        self.messages.append(message)
        if self.when is not None:
            self.when(message, self.run)


@dataclass
class Attempt:
    """What one attempt said, and how it ended: error is None where it did all its work."""

    messages: list = field(default_factory=list)
    error: BaseException | None = None

    def of(self, kind, step=None):
        return [message for message in self.messages if message["message"] == kind and step in (None, message.get("step"))]

    def events(self, kind):
        return [message for message in self.of("event") if message["kind"] == kind]

    def notices(self):
        return [event["text"] for event in self.events("notice")]

    def points(self, step=None):
        """The training series: update -> values."""
        return {message["global_step"]: message["values"] for message in self.of("points", step)}

    def losses(self, step=None):
        return [values["loss"] for values in self.points(step).values()]

    def checkpoints(self, step=None):
        return [message["global_step"] for message in self.of("checkpoint", step)]

    def measured(self, step=None):
        return [message["global_step"] for message in self.of("measurement", step)]

    def rows(self, step=None):
        """(update, measure) -> the last row told of it, as the store overwrites them."""
        told = {}
        for message in self.of("measurement", step):
            told |= {(row["global_step"], row["measure"]): row for row in message["metrics"]}
        return told


class Host:
    """Folders of models, data sets and artifacts. The model "tiny" and the data sets below are there."""

    def __init__(self, root, make_llama, tokenizer_folder):
        self._open(root, root / "models", root / "datasets")
        self._tokenizer_folder = tokenizer_folder
        self.add_model("tiny", make_llama())
        for name, rows in DATASETS.items():
            self.add_dataset(name, rows)

    @classmethod
    def of_folders(cls, root, models, datasets):
        """With the models and the data sets that are in these folders, and no others."""
        host = cls.__new__(cls)
        host._open(root, models, datasets)
        return host

    def _open(self, root, models, datasets):
        _set_aside_the_stack()
        self.root, self.models, self.datasets, self.artifacts = root, models, datasets, root / "artifacts"
        self.store_url = ""
        self.reward_hosts = ""
        self.earlier_jobs = {}
        self.uploaded = {}  # as a supervisor tells of files, by their ids
        self.artifacts.mkdir(parents=True)

    def add_model(self, name, model, tokenizer_folder=None):
        shutil.copytree(tokenizer_folder or self._tokenizer_folder, self.models / name)
        model.save_pretrained(self.models / name)

    def add_dataset(self, name, rows, **entry):
        """Rows are objects, or lines of text; those with a chosen answer are pairs, and those with a kto_tag labelled."""
        folder = self.datasets / "data"
        folder.mkdir(parents=True, exist_ok=True)
        info_file = folder / "dataset_info.json"
        info = json.loads(info_file.read_text()) if info_file.exists() else {}
        if isinstance(rows[0], str):
            (folder / f"{name}.txt").write_text("\n".join(rows))
            info[name] = {"file_name": f"{name}.txt", "columns": {"prompt": "text"}}
        else:
            (folder / f"{name}.json").write_text(json.dumps(rows))
            pairs = {"ranking": True} if "chosen" in rows[0] else {}
            labels = {"columns": LABEL_COLUMNS} if "kto_tag" in rows[0] else {}
            info[name] = {"file_name": f"{name}.json"} | pairs | labels | entry
        info_file.write_text(json.dumps(info))

    def work(self, document, earlier=()):
        """What a supervisor would hand to the attempt after these."""
        said = [message for attempt in earlier for message in attempt.messages]
        checkpoints, measurements = {}, {}
        read = read_job(document).resolved
        resolved = read.model_dump(mode="json")
        evaluates = {step["name"] for step in resolved["steps"] if step["do"] == "evaluate"}
        for message in said:
            if message["message"] == "checkpoint":
                kept = {name: message[name] for name in ("global_step", "path", "epoch", "files")}
                checkpoints.setdefault(message["step"], []).append(kept)
            if message["message"] == "measurement" and (message["global_step"] is not None or message["step"] in evaluates):
                kept = {name: message[name] for name in ("global_step", "split", "documents")}
                measurements.setdefault(message["step"], []).append(kept)
        return Work(
            job_id=JOB,
            attempt=len(earlier) + 1,
            job=resolved,
            artifacts_root=str(self.artifacts),
            models_root=str(self.models),
            datasets_root=str(self.datasets),
            exports_root=str(self.root / "exports"),
            cache_root=str(self.root / "cache"),
            hub=False,
            modelscope=False,
            reward_hosts=self.reward_hosts,
            tokens=tokens_of(read),
            device=None,
            threads=1,
            lease_seconds=60,
            artifacts_url=self.store_url,
            store_patience_seconds=0.1,
            outputs={message["step"]: message["output"] for message in said if message["message"] == "step"},
            checkpoints=checkpoints,
            measurements=measurements,
            earlier=self.earlier_jobs,
            files=self.uploaded,
        )

    def remember(self, document, attempt):
        """Has later jobs know this one, by the id that is answered, as a supervisor would tell them of it."""
        job_id = f"job-{len(self.earlier_jobs):024x}"
        self.earlier_jobs[job_id] = {
            name: values
            for name, values in vars(self.work(document, [attempt])).items()
            if name in ("job", "outputs", "checkpoints")
        }
        return job_id

    def attempt(self, document, earlier=(), when=None):
        """Runs the job after the earlier attempts. `when(message, run)` is called at each message: it may wish or raise."""
        pipe = Pipe()
        pipe.run = Run(pipe, self.artifacts)
        pipe.when = when
        work = self.work(document, earlier)
        pipe.run.deliveries = child._deliveries(work, pipe.run)
        error = None
        try:
            pipeline.run(work, pipe.run)
        except Exception as raised:
            error = raised
        return Attempt(pipe.messages, error)

    def done(self, document, earlier=()):
        """An attempt that ends well."""
        attempt = self.attempt(document, earlier)
        if attempt.error is not None:
            raise attempt.error
        return attempt

    def folder(self, attempt, step=None):
        """The last checkpoint's folder."""
        return self.artifacts / attempt.of("checkpoint", step)[-1]["path"]

    def weights(self, attempt, step=None):
        return weights(self.folder(attempt, step))


@cache
def _set_aside_the_stack():
    """Trainer collects garbage as it begins, which takes most of a second with all the libraries' objects to look at."""
    gc.collect()
    gc.freeze()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model's or of an adapter's folder."""
    names = ("model.safetensors", "adapter_model.safetensors")
    return next(load_file(folder / name) for name in names if (folder / name).exists())


def changed(before, after):
    """Names of the tensors that are not bitwise the same."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


# Twelve conversations of unlike lengths with one thing to learn, pairs and judged answers, and twelve texts of one sentence.
LABEL_COLUMNS = {"prompt": "instruction", "response": "output", "kto_tag": "kto_tag"}
PETS = ("cat", "dog", "fox")
DATASETS = {
    "pets": [
        {"instruction": f"what says the {PETS[n % 3]}" + " there" * (n % 4), "output": f"the {PETS[n % 3]}"} for n in range(12)
    ],
    "others": [{"instruction": f"which animal is number {n}", "output": "no animal of the forest"} for n in range(5)],
    "better": [
        {
            "instruction": f"what says the {PETS[n % 3]}" + " there" * (n % 4),
            "chosen": f"the {PETS[n % 3]}" + " over" * (n % 3),
            "rejected": "what is this" + " forest" * (n % 2),
        }
        for n in range(12)
    ],
    "judged": [
        {
            "instruction": f"what says the {PETS[n % 3]}",
            "output": ("the dog", "what")[n % 2] + " there" * (n % 4),
            "kto_tag": n % 2 == 0,
        }
        for n in range(12)
    ],
    "texts": [f"the quick brown fox jumps over the lazy dog {n}" for n in range(12)],
}


def training(**values):
    """Small batches and a rate at which a tiny model learns something in a few updates."""
    return {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "max_steps": 4, "save_steps": 2, "logging_steps": 1} | values


def a_job(**groups):
    """A supervised LoRA job on `pets`, of four updates with checkpoints at 2 and 4; each group is added to."""
    job = {
        "model": {"model_name_or_path": "tiny"},
        "data": {"template": "default", "dataset": "pets", "val_size": 2, "cutoff_len": 64},
        "finetuning": {"lora_rank": 2},
        "training": training(),
    }
    return {name: {**job[name], **groups.get(name, {})} for name in job} | {
        name: value for name, value in groups.items() if name not in job
    }


def a_pretraining_job(**groups):
    """The same on `texts`, with all parameters trained."""
    data = {"dataset": "texts", "template": None, "cutoff_len": 16} | groups.pop("data", {})
    finetuning = {"stage": "pt", "finetuning_type": "full"} | groups.pop("finetuning", {})
    job = a_job(data=data, **groups)
    return job | {"finetuning": finetuning}


def a_preference_job(**groups):
    """The same on the pairs of `better`, in the stage dpo."""
    finetuning = {"stage": "dpo", "lora_rank": 2} | groups.pop("finetuning", {})
    if finetuning.get("finetuning_type", "lora") != "lora":
        del finetuning["lora_rank"]
    job = a_job(data={"dataset": "better"} | groups.pop("data", {}), **groups)
    return job | {"finetuning": finetuning}


def with_system(datasets_root: Path, name: str, rows: int) -> None:
    """A labelled data set with system texts: whether a number is even."""
    folder = datasets_root / "data"
    folder.mkdir(parents=True, exist_ok=True)
    systems = ("answer in one word of the forest", "the animals ask")
    table = [
        {"instruction": f"is {n} even", "output": "yes" if n % 2 == 0 else "no", "system": systems[n % 3 % 2]}
        for n in range(rows)
    ]
    (folder / f"{name}.json").write_text(json.dumps(table))
    info_file = folder / "dataset_info.json"
    info = json.loads(info_file.read_text()) if info_file.exists() else {}
    columns = {"prompt": "instruction", "response": "output", "system": "system"}
    info_file.write_text(json.dumps(info | {name: {"file_name": f"{name}.json", "columns": columns}}))


def a_ppo_job(**groups):
    """Four updates of eight short responses each, drawn from the policy as it is; scored by the model "judge"."""
    finetuning = {"stage": "ppo", "reward_model": "judge", "reward_model_type": "full", "ppo_buffer_size": 2, "ppo_epochs": 2}
    given = groups.pop("finetuning", {})
    lora = {"lora_rank": 2} if given.get("finetuning_type", "lora") == "lora" else {}
    return {
        **a_job(
            training=training(**{"gradient_accumulation_steps": 2, "learning_rate": 1e-3} | groups.pop("training", {})),
            generating={"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 6} | groups.pop("generating", {}),
            **groups,
        ),
        "finetuning": finetuning | lora | given,
    }


def add_judge(host, name, model, bias=0.0):
    """A model with a value head of random weights."""
    host.add_model(name, model)
    head = ValueHead(model.config.hidden_size)
    torch.nn.init.normal_(head.summary.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(head.summary.bias, bias)
    value_head.save(head, host.models / name)
