"""What several variables share."""

from service.specs.catalogue.measure import Measure, Notebook

_VARIABLES = "the joint distribution of several discrete variables: answers to related prompts, tokens of a span, channels"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="multi_information",
        row=33,
        unit="bits",
        definition="Σ H(X_i) − H(X_1, ..., X_n) = D(joint ‖ product of its marginals) ≥ 0",
        source="Watanabe 1960; Studený & Vejnarová 1998",
        computed_on=_VARIABLES,
        aliases=("total_correlation",),
        notebook=Notebook(
            formula="Σ H(X_i) − H(X_1, ..., X_n)",
            verdict="correct",
            why="but I(X_1; ...; X_n) is the usual notation of the co-information",
        ),
        function="multivariate.multi_information",
    ),
    Measure(
        name="dual_total_correlation",
        row=33,
        unit="bits",
        definition="H(X_1, ..., X_n) − Σ H(X_i | all others) ≥ 0",
        source="Han 1978",
        computed_on=_VARIABLES,
        aliases=("binding_information",),
        function="multivariate.dual_total_correlation",
    ),
    Measure(
        name="co_information",
        row=33,
        unit="bits",
        definition="−Σ_T (−1)^|T| H(T) over the sets T of variables; of three I(X;Y) − I(X;Y|Z), negative for XOR",
        source="Bell 2003, The co-information lattice",
        computed_on=_VARIABLES,
        function="multivariate.co_information",
    ),
    Measure(
        name="interaction_information",
        row=33,
        unit="bits",
        definition="(−1)^n co_information of n variables; of three I(X;Y|Z) − I(X;Y), positive for XOR",
        source="McGill 1954, Multivariate information transmission",
        computed_on=_VARIABLES,
        function="multivariate.interaction_information",
    ),
    Measure(
        name="o_information",
        row=33,
        unit="bits",
        definition="multi_information − dual_total_correlation: positive where redundancy prevails, negative where synergy does",
        source="Rosas, Mediano, Gastpar & Jensen 2019",
        computed_on=_VARIABLES,
        function="multivariate.o_information",
    ),
)
