"""What the past of one sequence says of another."""

from service.specs.catalogue.measure import Measure, Notebook

_CONVERSATION = "conversations: the turns of the user, x, and of the assistant, y"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="directed_information",
        row=16,
        unit="bits",
        definition="I(Xⁿ→Yⁿ) = Σ_i I(X^i; Y_i | Y^{i−1})",
        source="Massey 1990",
        computed_on=_CONVERSATION,
        function="directed.directed_information",
        notebook=Notebook(
            formula="H(Y_t|Y_{t−1}) − H(Y_t|Y_{t−1},X_{t−1})",
            verdict="wrong",
            why="that is transfer entropy of order 1: where Y copies fair coins X at once it is 0 and this is 1 bit a "
            "step; neither can be negative",
        ),
    ),
    Measure(
        name="causally_conditioned_entropy",
        row=16,
        unit="bits",
        definition="H(Yⁿ‖Xⁿ) = Σ_i H(Y_i | Y^{i−1}, X^i)",
        source="Kramer 1998",
        computed_on=_CONVERSATION,
        function="directed.causally_conditioned_entropy",
    ),
    Measure(
        name="delayed_directed_information",
        row=16,
        unit="bits",
        definition="Σ_i I(Y^{i−1}; X_i | X^{i−1}), with directed_information the whole of I(Xⁿ;Yⁿ)",
        source="Massey & Massey 2005",
        computed_on=_CONVERSATION,
        function="directed.delayed_directed_information",
    ),
    Measure(
        name="directed_information_rate",
        row=16,
        unit="bits/symbol",
        definition="I(X_{t−k..t}; Y_t | Y_{t−k..t−1})",
        source="Massey 1990; Kramer 1998",
        computed_on=_CONVERSATION,
        function="directed.directed_information_rate",
    ),
    Measure(
        name="empirical_directed_information_rate",
        row=16,
        unit="bits/symbol",
        definition="directed_information_rate of the windows of k+1 symbols that were seen",
        source="Massey 1990; Kramer 1998",
        computed_on="two series of symbols, such as rising and falling metrics of a run",
        function="directed.empirical_directed_information_rate",
        estimator="plug-in; high where windows are rare",
    ),
    Measure(
        name="transfer_entropy",
        row=16,
        unit="bits/symbol",
        definition="I(X_{t−k..t−1}; Y_t | Y_{t−k..t−1})",
        source="Schreiber 2000",
        computed_on=_CONVERSATION,
        function="directed.transfer_entropy",
    ),
    Measure(
        name="empirical_transfer_entropy",
        row=16,
        unit="bits/symbol",
        definition="transfer_entropy of the windows of k+1 symbols that were seen",
        source="Schreiber 2000",
        computed_on="two series of symbols, such as rising and falling metrics of a run",
        function="directed.empirical_transfer_entropy",
        estimator="plug-in; high where windows are rare: compare with shuffled x",
    ),
    Measure(
        name="model_directed_information",
        row=16,
        unit="bits",
        definition="Σ lg p(y_i | y_<i, x_≤i) − lg p(y_i | y_<i), p the language model",
        source="Massey 1990; Kramer 1998",
        computed_on="conversations: the answers' tokens, with and without the user's turns",
        function="directed.model_directed_information",
        estimator="two forward passes; a sample under the model",
        on="prompts",
        in_jobs=True,
    ),
)
