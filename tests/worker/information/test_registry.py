"""The registry and the mathematics: each row has its function, each function its row, each of the notebook's 43 its verdict."""

import inspect
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import worker.information
from service.specs.measures import FAMILIES, REGISTRY
from worker.probes.named import function, named

# Public functions of the families that are no measures, and what they are. A file of one name stands for all of its functions.
HELPERS = {
    "distributions": "checks, and operations that the measures share",
    "intervals": "intervals of means over tokens",
    "significance": "what alerts test",
    "vocabulary": "the statistics that measures at checkpoints are made of",
    "shannon.information_density": "the integrand, in nats, that measures of a joint distribution share",
    "quantum.density_matrix": "the check of what the measures take",
    "quantum.partial_trace": "makes the density matrix of a part",
    "samples": "checks of samples, and their covariances",
    "geometry.cell_probabilities": "counts samples in the cells of a grid",
    "geometry.power_spectrum": "what spectral measures take",
    "processes.symbol_sequences": "the check of what sequences are",
    "processes.adjacency": "the check of what a graph is",
    "processes.square_channel": "the check of what a chain is",
    "processes.iid_nll": "the surprisal whose mean the theorem of Shannon, McMillan and Breiman is about",
    "hidden_markov.fitted_chain": "the chain of greatest likelihood, whose rate is then bounded",
    "processes.markov_nll": "the same, of a chain",
    "renewal.gaps": "what a renewal measure takes, of the times of events",
    "renewal.return_times": "what a renewal measure takes, of a sequence of symbols",
    "dynamics.transition_graph": "what topological entropy takes, of a sequence of symbols",
    "geometry.low_rank_singular_values": "what spectral measures of a LoRA update take",
}

# Every measure that the notebook names, as it names them.
NOTEBOOK = [
    "shannon_entropy",
    "information_entropy",
    "source_entropy",
    "conditional_entropy",
    "joint_entropy",
    "relative_entropy",
    "kullback_leibler_divergence",
    "cross_entropy",
    "mutual_information",
    "renewal_entropy",
    "differential_entropy",
    "kolmogorov_complexity",
    "fisher_information",
    "cramer_rao_bound",
    "information_bottleneck",
    "blackwells_information_measure",
    "channel_capacity",
    "shannon_hartley_theorem",
    "source_coding",
    "source_coding_theorem",
    "redundancy",
    "rate_distortion_theory",
    "directed_information",
    "granger_causality",
    "gibbs_entropy",
    "statistical_entropy",
    "tsallis_entropy",
    "renyi_entropy",
    "renyi_divergence",
    "conditional_mutual_information",
    "variational_information",
    "hartley_entropy",
    "negentropy",
    "shannon_mcmillan_breiman_theorem_entropy",
    "renyi_mutual_information",
    "topological_entropy",
    "quantum_entropy",
    "von_neumann_entropy",
    "reversed_relative_entropy",
    "havrda_charvat_tsallis_entropy",
    "information_dimension",
    "equivocation",
    "multi_information",
    "shannon_wiener_diversity_index",
    "conditional_renyi_entropy",
    "perplexity",
    "empirical_entropy",
    "spectral_entropy",
    "participation_entropy",
    "information_entropy_rate",
    "partitioned_entropy",
    "hidden_markov_model_entropy",
    "proportional_entropy",
]


def test_each_row_of_the_notebook_has_exactly_one_measure_that_it_meant():
    assert Counter(measure.row for measure in REGISTRY if measure.notebook) == Counter(range(1, 44))


def test_a_relative_is_a_relative_of_one_of_the_43():
    assert {measure.row for measure in REGISTRY} <= {*range(1, 44), None}


@pytest.mark.parametrize("name", NOTEBOOK)
def test_what_the_notebook_named_goes_by_that_name(name):
    assert named(name) is not None


def test_no_name_and_no_alias_means_two_measures():
    names = Counter(name for measure in REGISTRY for name in (measure.name, *measure.aliases))
    assert [name for name, times in names.items() if times > 1] == []
    # predictions have the names that LLaMA-Factory gave them, which are no identifiers
    assert all(name.replace("-", "_").isidentifier() and name == name.lower() for name in names)


def test_each_measure_says_what_it_is_where_from_and_of_what():
    for measure in REGISTRY:
        assert measure.unit, measure.name
        assert measure.definition, measure.name
        assert measure.source, measure.name
        assert measure.computed_on, measure.name


@pytest.mark.parametrize("measure", REGISTRY, ids=lambda measure: measure.name)
def test_a_measure_is_a_documented_function_unless_only_a_probe_computes_it(measure):
    if measure.function is None:
        assert measure.in_jobs or measure.on in ("rows", "predictions")
        return
    found = function(measure.function)
    assert inspect.isfunction(found)
    assert inspect.getdoc(found)
    for name in (measure.name, *measure.aliases):
        assert named(name) is found


def test_each_family_has_its_rows_and_its_mathematics_under_one_name():
    folder = Path(worker.information.__file__).parent
    for family in FAMILIES:
        name = family.__name__.rpartition(".")[2]
        rows = {measure.function.partition(".")[0] for measure in family.ROWS if measure.function}
        assert rows <= {name}
        assert bool(rows) == ((folder / f"{name}.py").exists() or (folder / name).is_dir()), name


def test_each_public_function_is_a_measure_or_a_helper_with_a_reason():
    measures = {measure.function for measure in REGISTRY}
    unknown, there = [], set()
    folder = Path(worker.information.__file__).parent
    for file in folder.rglob("[!_]*.py"):
        stem = ".".join(file.relative_to(folder).with_suffix("").parts)
        module = import_module(f"worker.information.{stem}")
        for name, _ in inspect.getmembers(module, lambda member, module=module: _is_public_function_of(member, module)):
            path, family = f"{stem}.{name}", stem.partition(".")[0]
            there |= {family, path}
            if path not in measures and path not in HELPERS and family not in HELPERS:
                unknown.append(path)
    assert unknown == []
    assert set(HELPERS) <= there


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no measure 'entropie'; there are .*entropy"):
        named("entropie")


def test_what_only_a_probe_computes_has_no_function_of_arrays():
    with pytest.raises(ValueError, match="bits_per_byte is computed at checkpoints only"):
        named("bits_per_byte")


def _is_public_function_of(member, module):
    return inspect.isfunction(member) and member.__module__ == module.__name__ and not member.__name__.startswith("_")
