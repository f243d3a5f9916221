"""The gaps between events that come again."""

from service.specs.catalogue.measure import Measure, Notebook

ROWS: tuple[Measure, ...] = (
    Measure(
        name="renewal_entropy_rate",
        row=7,
        unit="bits/symbol",
        definition="H(T)/E[T], T the gap between events",
        source="Csiszár & Shields 1996",
        computed_on="gaps between repeats of a token, an end of text, a tool call",
        function="renewal.renewal_entropy_rate",
        aliases=("renewal_entropy",),
        notebook=Notebook(
            formula="−∫p(t) lg p(t) dt",
            verdict="incomplete",
            why="that is the entropy of one gap, not a rate; and more variable gaps need not have more of it",
        ),
        on="generations",
        in_jobs=True,
    ),
    Measure(
        name="empirical_renewal_entropy_rate",
        row=7,
        unit="bits/symbol",
        definition="plug-in H(T) over the mean gap",
        source="Csiszár & Shields 1996; Miller 1955",
        computed_on="gaps between repeats of a token in generations",
        function="renewal.empirical_renewal_entropy_rate",
        estimator="plug-in; low by about (K−1)/(2N ln 2 · mean gap)",
    ),
    Measure(
        name="continuous_renewal_entropy_rate",
        row=7,
        unit="bits/unit of time",
        definition="h(T)/E[T]",
        source="McFadden 1965",
        computed_on="times between events of a run, such as requests or evaluations",
        function="renewal.continuous_renewal_entropy_rate",
    ),
    Measure(
        name="kac_return_time",
        row=7,
        unit="symbols",
        definition="1/P(symbol), the mean return time in a stationary ergodic process",
        source="Kac 1947",
        computed_on="how often a token of known frequency comes back",
        function="renewal.kac_return_time",
    ),
)
