"""Sequences: rates, recurrences, memory."""

from service.specs.catalogue.measure import Measure, Notebook

_TEXT = "token sequences of a data set or of generations"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="block_entropy_rates",
        row=40,
        unit="bits/symbol",
        definition="H_k − H_{k−1}, k = 1, 2, …: they fall to the entropy rate lim H(X_1..X_n)/n of a stationary process",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 4",
        computed_on=_TEXT,
        function="processes.block_entropy_rates",
        aliases=("entropy_rate", "information_entropy_rate"),
        notebook=Notebook(formula="lim H(X_1..X_n)/n", verdict="correct"),
        estimator="counts of blocks; too small where blocks are longer than the sample can show",
        on="data",
        in_jobs=True,
    ),
    Measure(
        name="block_entropies",
        row=40,
        unit="bits",
        definition="H_k, the entropy of blocks of k successive symbols",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 4",
        computed_on=_TEXT,
        function="processes.block_entropies",
        estimator="counts of blocks, plug-in or any other estimator of counts",
    ),
    Measure(
        name="markov_entropy_rate",
        row=40,
        unit="bits/symbol",
        definition="Σ_i π_i H(P_i), π = πP",
        source="Shannon 1948; Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, theorem 4.2.4",
        computed_on="a transition matrix, such as that between classes of tokens",
        function="processes.markov_entropy_rate",
    ),
    Measure(
        name="stationary_distribution",
        row=40,
        unit="a distribution",
        definition="π = πP, of a chain with one closed class",
        source="Grassmann, Taksar & Heyman 1985",
        computed_on="a transition matrix",
        function="processes.stationary_distribution",
    ),
    Measure(
        name="parry_measure",
        row=40,
        unit="a chain",
        definition="P_ij = A_ij v_j/(λ v_i), Av = λv: the chain of greatest entropy rate on a graph",
        source="Parry 1964",
        computed_on="the transition graph of generations",
        function="processes.parry_measure",
        aliases=("maximal_entropy_random_walk",),
    ),
    Measure(
        name="match_length_entropy_rate",
        row=40,
        unit="bits/symbol",
        definition="(T−1)/Σ_t Λ_t/lg(t+1), Λ_t one more than the longest match of the text from t with its past",
        source="Kontoyiannis, Algoet, Suhov & Wyner 1998",
        computed_on=_TEXT,
        function="processes.match_length_entropy_rate",
        estimator="consistent but biased low at practical lengths: compare texts of one length with it",
    ),
    Measure(
        name="sample_entropy_rate",
        row=26,
        unit="bits/symbol",
        definition="−(1/n) lg p(x_1..x_n), almost surely lim = entropy rate for stationary ergodic processes",
        source="Shannon 1948; McMillan 1953; Breiman 1957; Algoet & Cover 1988; Cover & Thomas, Elements of "
        "Information Theory, 2nd ed. 2006, §16.8",
        computed_on="generations of a checkpoint, scored by itself",
        function="processes.sample_entropy_rate",
        aliases=(
            "shannon_mcmillan_breiman",
            "asymptotic_equipartition",
            "shannon_mcmillan_breiman_theorem_entropy",
        ),
        notebook=Notebook(
            formula="H = lim −(1/n) lg P(x_1..x_n)",
            verdict="incomplete",
            why="almost surely, and for stationary ergodic processes; it is about the likelihood of the sample, not "
            "the empirical distribution",
        ),
        on="generations",
        in_jobs=True,
    ),
    Measure(
        name="self_consistency",
        row=26,
        unit="bits/symbol",
        definition="(1/n) Σ (−lg p(x_t|x_<t) − H(p_t)), a mean of martingale differences if x was sampled from p, and its z",
        source="Braverman et al. 2020",
        computed_on="generations of a checkpoint, or held-out text, at temperature 1",
        function="processes.self_consistency",
        aliases=("entropy_calibration_gap",),
        estimator="z from the summed varentropies",
    ),
)
