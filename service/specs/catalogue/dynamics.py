"""Maps and graphs: how fast their orbits come apart."""

from service.specs.catalogue.measure import Measure, Notebook

_GENERATED = "generations of a checkpoint"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="topological_entropy",
        row=28,
        unit="bits/symbol",
        definition="lg of the spectral radius of a transition graph = lim lg N_k/k of its words",
        source="Adler, Konheim & McAndrew 1965; Lind & Marcus 1995, ch. 4",
        computed_on="the graph of transitions seen in generations: 0 where they loop",
        function="dynamics.topological_entropy",
        notebook=Notebook(
            formula="lim_{ε→0} limsup lg N_ε(f^n)/n",
            verdict="wrong",
            why="covers of f^n are not it: Bowen counts (n,ε)-separated orbits",
        ),
        on="generations",
        in_jobs=True,
    ),
    Measure(
        name="word_growth",
        row=28,
        unit="bits/symbol",
        definition="lg N_{k+1} − lg N_k of the distinct k-grams",
        source="Lind & Marcus 1995, §4.1",
        computed_on=_GENERATED,
        function="dynamics.word_growth",
        aliases=("distinct_k_growth",),
        estimator="counts; says nothing of words longer than the sample can show",
        on="generations",
        in_jobs=True,
    ),
    Measure(
        name="distinct_words",
        row=28,
        unit="1",
        definition="N_k, the number of distinct k-grams",
        source="Lind & Marcus 1995, §4.1",
        computed_on=_GENERATED,
        function="dynamics.distinct_words",
        aliases=("complexity_function",),
    ),
    Measure(
        name="walk_counts",
        row=28,
        unit="1",
        definition="1ᵀA^{k−1}1, the words of k symbols that a graph allows",
        source="Lind & Marcus 1995, §4.1",
        computed_on="the transition graph of generations",
        function="dynamics.walk_counts",
    ),
    Measure(
        name="separated_set_sizes",
        row=28,
        unit="1",
        definition="N(n,ε): points that keep max_{i<n} d(fⁱx, fⁱy) > ε; lim_ε limsup lg N/n is the topological entropy",
        source="Bowen 1971",
        computed_on="a map on hidden states or on the metrics of a run",
        function="dynamics.separated_set_sizes",
        aliases=("bowen_separated_sets",),
        estimator="greedy on a sample: a lower bound",
    ),
    Measure(
        name="partition_entropy_rates",
        row=41,
        unit="bits/symbol",
        definition="h(f,α) = lim H(∨_{i<k} f⁻ⁱα) − H(∨_{i<k−1} f⁻ⁱα); the supremum over partitions is the "
        "Kolmogorov–Sinai entropy",
        source="Kolmogorov 1958; Sinai 1959; Walters 1982, ch. 4",
        computed_on="a map on hidden states or on the metrics of a run, cut into cells",
        function="dynamics.partition_entropy_rates",
        estimator="counts of blocks of cells",
    ),
)
