"""Distances between two distributions."""

from service.specs.catalogue.measure import Measure, Notebook

_TWO_MODELS = (
    "the next-token distributions of a checkpoint and of its base at one position, or any two distributions of one variable"
)

ROWS: tuple[Measure, ...] = (
    Measure(
        name="total_variation",
        row=23,
        unit="1",
        definition="sup_A P(A) − Q(A) = ½ Σ|p − q|",
        source="Levin, Peres & Wilmer, Markov Chains and Mixing Times, 2nd ed. 2017, ch. 4; Cover & Thomas 2006, §11.6",
        computed_on=_TWO_MODELS + "; 1 − TV is how often a draft from the one is accepted by the other",
        aliases=("variational_information", "statistical_distance", "variational_distance"),
        notebook=Notebook(
            formula="sup_A (P(A) − Q(A))",
            verdict="correct",
            why="of the total variation; the name suggests the variation of information, which is variation_of_information here",
        ),
        function="divergences.total_variation",
    ),
    Measure(
        name="jensen_shannon_divergence",
        row=23,
        unit="bits",
        definition="½ D(p‖m) + ½ D(q‖m), m = ½(p + q); from 0 to 1, not the square root",
        source="Lin 1991",
        computed_on=_TWO_MODELS,
        aliases=("jensen_shannon",),
        function="divergences.jensen_shannon_divergence",
    ),
    Measure(
        name="jensen_shannon_distance",
        row=23,
        unit="√bits",
        definition="the square root of jensen_shannon_divergence, a metric",
        source="Endres & Schindelin 2003",
        computed_on=_TWO_MODELS,
        function="divergences.jensen_shannon_distance",
    ),
    Measure(
        name="bhattacharyya_coefficient",
        row=23,
        unit="1",
        definition="BC = Σ √(p q); 1 − BC ≤ TV ≤ √(1 − BC²)",
        source="Bhattacharyya 1943",
        computed_on=_TWO_MODELS,
        function="divergences.bhattacharyya_coefficient",
    ),
    Measure(
        name="bhattacharyya_distance",
        row=23,
        unit="bits",
        definition="−lg BC = ½ D_½(p‖q); +inf where nothing is common",
        source="Kailath 1967",
        computed_on=_TWO_MODELS,
        function="divergences.bhattacharyya_distance",
    ),
    Measure(
        name="hellinger_distance",
        row=23,
        unit="1",
        definition="√(½ Σ (√p − √q)²) = √(1 − BC), a metric",
        source="Le Cam 1986, Asymptotic Methods in Statistical Decision Theory",
        computed_on=_TWO_MODELS,
        aliases=("hellinger",),
        function="divergences.hellinger_distance",
    ),
    Measure(
        name="pinsker_bound",
        row=23,
        unit="1",
        definition="TV ≤ √(½ D ln 2), D in bits",
        source="Csiszár 1967; Cover & Thomas 2006, Lemma 11.6.1",
        computed_on="a relative entropy, where the total variation itself would need a second pass over the vocabulary",
        function="divergences.pinsker_bound",
    ),
    Measure(
        name="bretagnolle_huber_bound",
        row=23,
        unit="1",
        definition="TV ≤ √(1 − 2^(−D)), D in bits",
        source="Bretagnolle & Huber 1979; Canonne 2022 (arXiv 2202.07198)",
        computed_on="a relative entropy that is too large for pinsker_bound to say anything",
        function="divergences.bretagnolle_huber_bound",
    ),
    Measure(
        name="bhattacharyya_bounds",
        row=23,
        unit="1",
        definition="1 − BC ≤ TV ≤ √(1 − BC²)",
        source="Kraft 1955; Kailath 1967",
        computed_on="a Bhattacharyya coefficient, which one pass over the vocabulary gives",
        function="divergences.bhattacharyya_bounds",
    ),
)
