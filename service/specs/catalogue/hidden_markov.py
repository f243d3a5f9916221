"""Chains that are seen through noise."""

from service.specs.catalogue.measure import Measure, Notebook

_CLASSES = "a hidden Markov model over classes of per-token surprisal, or over the metrics of a run"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="hidden_markov_rate_bounds",
        row=42,
        unit="bits/symbol",
        definition="H(Y_n | Y^{n−1}, S_1) ≤ h ≤ H(Y_n | Y^{n−1}), h the entropy rate of what is seen",
        source="Blackwell 1957; Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §4.5",
        computed_on=_CLASSES,
        function="hidden_markov.hidden_markov_rate_bounds",
        aliases=(
            "hidden_markov_entropy",
            "hmm_entropy",
            "hidden_markov_model_entropy",
        ),
        notebook=Notebook(
            formula="−Σ P(x_i) lg P(x_i) over hidden states",
            verdict="wrong",
            why="the marginal entropy of the states ignores both their dynamics and the emissions: 0.811 for a chain of 0.572",
        ),
        on="tokens",
        in_jobs=True,
    ),
    Measure(
        name="state_posterior_entropy",
        row=42,
        unit="bits",
        definition="H(S_1..S_T | y_1..y_T), what remains unknown of the path of states",
        source="Hernando, Crespi & Cybenko 2005",
        computed_on=_CLASSES,
        function="hidden_markov.state_posterior_entropy",
    ),
)
