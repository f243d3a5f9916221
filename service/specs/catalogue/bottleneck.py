"""What of one variable is worth keeping for another."""

from service.specs.catalogue.measure import Measure, Notebook

_LAYERS = "the layers of a checkpoint, by a probe or a logit lens on held-out labels"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="information_bottleneck",
        row=11,
        unit="bits",
        definition="min over p(t|x) of I(X;T) − β I(T;Y), T − X − Y a Markov chain: how little of X keeps how much about Y",
        source="Tishby, Pereira & Bialek 1999",
        computed_on="a joint distribution of inputs and labels, or of clusters of them",
        function="bottleneck.information_bottleneck",
        notebook=Notebook(
            formula="L_β(Y;X), Y compressed, X input",
            verdict="wrong",
            why="the relevance variable is missing, so nothing is defined",
        ),
        estimator="alternating iteration; the least of several stationary points",
    ),
    Measure(
        name="gaussian_information_bottleneck",
        row=11,
        unit="bits",
        definition="for jointly Gaussian X and Y, λ_i the eigenvalues of Σ_X|Y Σ_X⁻¹: I(T;Y) = Σ ½ lg((β−1)/(β "
        "λ_i)) over λ_i < 1 − 1/β",
        source="Chechik, Globerson, Tishby & Weiss 2005",
        computed_on="hidden states and what is to be predicted, by their covariances",
        function="bottleneck.gaussian_information_bottleneck",
    ),
    Measure(
        name="relevance_lower_bound",
        row=11,
        unit="bits",
        definition="I(T;Y) ≥ H(Y) − CE, CE the cross-entropy of any predictor of Y from T",
        source="Barber & Agakov 2003; Xu et al. 2020",
        computed_on=_LAYERS,
        function="bottleneck.relevance_lower_bound",
        aliases=("variational_information_bound",),
        estimator="a lower bound, on held-out data",
        on="hidden",
        in_jobs=True,
    ),
    Measure(
        name="usable_information",
        row=11,
        unit="bits",
        definition="I_V(X→Y) = H_V(Y) − H_V(Y|X): the cross-entropy without X less that with it, each of the best "
        "predictor in a family V",
        source="Xu, Zhao, Song, Stewart & Ermon 2020",
        computed_on="the answers of held-out documents, with and without their prompts",
        function="bottleneck.usable_information",
        aliases=(
            "v_information",
            "predictive_v_information",
        ),
        estimator="mean of held-out differences; may be negative",
        on="prompts",
        in_jobs=True,
    ),
    Measure(
        name="pointwise_usable_information",
        row=11,
        unit="bits",
        definition="lg q(y|x) − lg q(y) of one example",
        source="Ethayarajh, Choi & Swayamdipta 2022",
        computed_on="each held-out document: a low value marks a hard or mislabelled one",
        function="bottleneck.pointwise_usable_information",
        aliases=("pvi",),
    ),
)
