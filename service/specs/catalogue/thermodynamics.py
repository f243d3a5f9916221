"""A softmax as a canonical ensemble."""

from service.specs.catalogue.measure import Measure, Notebook

_SOFTMAX = "the next-token logits of a checkpoint, sampled at temperature T"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="gibbs_entropy",
        row=18,
        unit="nats",
        definition="−k Σ p ln p = k ln 2 · H",
        source="Gibbs 1902; Jaynes 1957",
        computed_on="the next-token distribution",
        function="thermodynamics.gibbs_entropy",
        notebook=Notebook(formula="−k Σ p ln p", verdict="correct"),
        aliases=("statistical_entropy",),
        on="tokens",
        in_jobs=True,
    ),
    Measure(
        name="canonical_ensemble",
        row=18,
        unit="nats, and logits",
        definition="of softmax(z/T): U = −E z, F = −T ln Z, S = ln Z + U/T, C = Var(z)/T², dS/dT = Var(z)/T³",
        source="Gibbs 1902; Jaynes 1957",
        computed_on=_SOFTMAX,
        function="thermodynamics.canonical_ensemble",
    ),
    Measure(
        name="helmholtz_free_energy",
        row=18,
        unit="logits",
        definition="U(p) − T S(p) = F + T D(p ‖ softmax(z/T))",
        source="Gibbs 1902; Jaynes 1957",
        computed_on="any way of choosing tokens, against the logits of a checkpoint",
        function="thermodynamics.helmholtz_free_energy",
    ),
    Measure(
        name="temperature_for_entropy",
        row=18,
        unit="1",
        definition="the T at which softmax(z/T) has a given entropy",
        source="Jaynes 1957",
        computed_on=_SOFTMAX,
        function="thermodynamics.temperature_for_entropy",
    ),
)
