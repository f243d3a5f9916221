"""The argument groups are the notebook's dataclasses, field for field, but for the differences listed here with their reasons.

`notebook_arguments.json` holds the facts (name, type, default, choices), so that the comparison needs no other file; where the
notebook lies beside the repository, the facts are held against it, and the help texts too.
"""

import ast
import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import SecretStr

from service.specs.data import DataArguments
from service.specs.evaluation import EvaluationArguments
from service.specs.finetuning import FinetuningArguments, FreezeArguments, LoraArguments, RLHFArguments
from service.specs.generating import GeneratingArguments
from service.specs.model import ModelArguments

FACTS = Path(__file__).with_name("notebook_arguments.json")
NOTEBOOK = Path(__file__).parents[2].parent / "shared" / "design" / "seed-notebook.txt"

GROUPS = {
    group.__name__: group
    for group in (
        GeneratingArguments,
        EvaluationArguments,
        DataArguments,
        FreezeArguments,
        LoraArguments,
        RLHFArguments,
        FinetuningArguments,
        ModelArguments,
    )
}

COMMAS = "the notebook splits the string itself after reading; here it is a tuple from the start"
BITS = "the notebook's own assert is the list of choices"
SECRET = "a token is never shown again, so it is a secret string"

# What differs from the notebook, by "Group.field": (the facts that differ, why).
DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "ModelArguments.adapter_name_or_path": ({"type": "list"}, COMMAS),
    "DataArguments.dataset": ({"type": "list"}, COMMAS),
    "DataArguments.interleave_probs": ({"type": "list"}, COMMAS),
    "FreezeArguments.name_module_trainable": ({"type": "list", "default": ["mlp"]}, COMMAS),
    "LoraArguments.additional_target": ({"type": "list"}, COMMAS),
    "LoraArguments.lora_target": ({"type": "list"}, COMMAS),
    "RLHFArguments.ref_model_adapters": ({"type": "list"}, COMMAS),
    "RLHFArguments.reward_model_adapters": ({"type": "list"}, COMMAS),
    "ModelArguments.quantization_bit": ({"choices": [4, 8]}, BITS),
    "ModelArguments.export_quantization_bit": ({"choices": [2, 3, 4, 8]}, BITS),
    "RLHFArguments.ref_model_quantization_bit": ({"choices": [4, 8]}, BITS),
    "RLHFArguments.reward_model_quantization_bit": ({"choices": [4, 8]}, BITS),
    "ModelArguments.hf_hub_token": ({"type": "secret"}, SECRET),
    "ModelArguments.ms_hub_token": ({"type": "secret"}, SECRET),
    "RLHFArguments.dpo_loss": (
        {"choices": ["sigmoid", "hinge", "ipo", "kto", "kto_pair"]},
        "kto of pairs is called kto_pair where the loss is defined; both names are taken",
    ),
    "RLHFArguments.ppo_logger": ({"choices": ["wandb", "tensorboard"]}, "the notebook's help text is the list of choices"),
    "EvaluationArguments.task": ({"required": False}, "every job has the group, and a step that evaluates is held to its task"),
    "EvaluationArguments.download_mode": (
        {
            "type": "str",
            "default": "reuse_dataset_if_exists",
            "choices": ["reuse_dataset_if_exists", "reuse_cache_if_exists", "force_redownload"],
        },
        "the enum DownloadMode lives in a library that the service does not import; these are its values",
    ),
}

# Fields that the notebook does not have, by "Group.field": why.
OWN: dict[str, str] = {
    "DataArguments.overlength": "rows longer than cutoff_len may also be left out, and are counted either way",
    "RLHFArguments.reward_api_key": "a reward API may ask for a key, which is no part of a URL that is stored and shown",
    "EvaluationArguments.split": "the notebook takes it from the data's arguments, where it means what is trained on",
}

needs_notebook = pytest.mark.skipif(not NOTEBOOK.exists(), reason="the notebook is not beside the repository")


def facts_of_the_file() -> dict[str, list[dict[str, Any]]]:
    return json.loads(FACTS.read_text(encoding="utf-8"))


def test_the_notebook_has_ninety_one_arguments() -> None:
    assert sum(len(fields) for fields in facts_of_the_file().values()) == 91


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_has_the_notebooks_fields_in_its_order(name: str) -> None:
    ours = [field for field in own_fields(name) if f"{name}.{field}" not in OWN]
    assert ours == [fact["name"] for fact in facts_of_the_file()[name]]


@pytest.mark.parametrize("name", GROUPS)
def test_types_defaults_and_choices_are_the_notebooks_but_for_the_listed_differences(name: str) -> None:
    expected = [{**fact, **DIFFERENCES.get(f"{name}.{fact['name']}", ({}, ""))[0]} for fact in facts_of_the_file()[name]]
    assert [facts_of_ours(name, field) for field in own_fields(name) if f"{name}.{field}" not in OWN] == expected


def test_finetuning_holds_the_three_groups_it_is_made_of() -> None:
    parts = [field for part in (FreezeArguments, LoraArguments, RLHFArguments) for field in part.model_fields]
    assert set(parts) | set(own_fields("FinetuningArguments")) == set(FinetuningArguments.model_fields)


def test_every_listed_difference_is_one_and_has_a_reason() -> None:
    facts = {f"{group}.{fact['name']}": fact for group, fields in facts_of_the_file().items() for fact in fields}
    for place, (differing, reason) in DIFFERENCES.items():
        assert reason
        assert all(facts[place][key] != value for key, value in differing.items()), place
    assert not OWN.keys() & facts.keys()


@needs_notebook
def test_the_file_of_facts_is_what_the_notebook_says() -> None:
    facts = {group: [without_help(fact) for fact in fields] for group, fields in facts_of_the_notebook().items()}
    assert facts_of_the_file() == facts


@needs_notebook
@pytest.mark.parametrize("name", GROUPS)
def test_help_texts_are_the_notebooks(name: str) -> None:
    helps = {fact["name"]: fact["help"] for fact in facts_of_the_notebook()[name]}
    fields = GROUPS[name].model_fields
    assert {field: fields[field].description for field in helps} == helps
    assert all(fields[field].description for field in fields)


def own_fields(name: str) -> list[str]:
    inherited = {field for base in GROUPS[name].__bases__ for field in getattr(base, "model_fields", {})}
    return [field for field in GROUPS[name].model_fields if field not in inherited]


def facts_of_ours(name: str, field: str) -> dict[str, Any]:
    info = GROUPS[name].model_fields[field]
    annotation = info.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not types.NoneType)
    annotation, *_ = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    choices = list(get_args(annotation)) if get_origin(annotation) is Literal else None
    if choices:
        annotation = type(choices[0])
    names = {SecretStr: "secret", tuple[str, ...]: "list"}
    default = list(info.default) if isinstance(info.default, tuple) else info.default
    return {
        "name": field,
        "type": names.get(annotation) or annotation.__name__,
        "required": info.is_required(),
        "default": None if info.is_required() else default,
        "choices": choices,
    }


def without_help(fact: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fact.items() if key != "help"}


def facts_of_the_notebook() -> dict[str, list[dict[str, Any]]]:
    """Its dataclasses, read as text: it imports what is not here, so it is parsed and never run."""
    cells = NOTEBOOK.read_text(encoding="utf-8").split("@dataclass\n")[1:]
    trees = [ast.parse(as_one_class(cell)).body[0] for cell in cells]
    classes = [tree for tree in trees if isinstance(tree, ast.ClassDef)]
    return {tree.name: [facts_of_a_field(node) for node in tree.body if isinstance(node, ast.AnnAssign)] for tree in classes}


def as_one_class(text: str) -> str:
    first, *rest = text.splitlines()
    body = [first]
    for line in rest:
        if line and not line[0].isspace():
            break
        body.append(line)
    return "\n".join(body)


def facts_of_a_field(node: ast.AnnAssign) -> dict[str, Any]:
    assert isinstance(node.target, ast.Name)
    assert isinstance(node.value, ast.Call)
    keywords = {keyword.arg: keyword.value for keyword in node.value.keywords}
    annotation = node.annotation
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Optional":
        annotation = annotation.slice
    choices = None
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        choices = list(ast.literal_eval(annotation.slice))
    default = keywords.get("default")
    return {
        "name": node.target.id,
        "type": type(choices[0]).__name__ if choices else ast.unparse(annotation),
        "required": default is None,
        "default": None if default is None else value_of(default),
        "choices": choices,
        "help": " ".join(ast.literal_eval(keywords["metadata"])["help"].split()),
    }


def value_of(node: ast.expr) -> Any:
    return ast.unparse(node) if isinstance(node, ast.Attribute) else ast.literal_eval(node)
