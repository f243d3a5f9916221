"""Which experiment tells more."""

from service.specs.catalogue.measure import Measure, Notebook

_TWO = "the confusion channels of two checkpoints on the same classes, P(answer | true class)"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="le_cam_deficiency",
        row=12,
        unit="1",
        definition="δ(P,Q) = min over garblings M of max_x TV((PM)_x, Q_x): 0 iff P dominates Q",
        source="Le Cam 1964; Torgersen, Comparison of Statistical Experiments, 1991",
        computed_on=_TWO,
        function="comparison.le_cam_deficiency",
        aliases=(
            "blackwell_information_measure",
            "blackwells_information_measure",
        ),
        notebook=Notebook(
            formula="Σ P lg(P/Q) from prior P to posterior Q",
            verdict="wrong",
            why="it is relative entropy again, and in the reverse direction; what Blackwell compared are experiments",
        ),
        estimator="linear programme; bootstrap the rows",
        on="task",
        in_jobs=True,
    ),
    Measure(
        name="le_cam_distance",
        row=12,
        unit="1",
        definition="Δ(P,Q) = max(δ(P,Q), δ(Q,P))",
        source="Le Cam 1964",
        computed_on=_TWO,
        function="comparison.le_cam_distance",
    ),
    Measure(
        name="blackwell_dominates",
        row=12,
        unit="true or false",
        definition="Q = PM for some row-stochastic M: P is at least as good for every prior and every loss",
        source="Blackwell 1951, 1953",
        computed_on=_TWO,
        function="comparison.blackwell_dominates",
        aliases=("blackwell_order",),
    ),
    Measure(
        name="blackwell_measure",
        row=12,
        unit="a distribution",
        definition="the law of the posterior P(X | y) under P(y); its mean is the prior",
        source="Blackwell 1951",
        computed_on="a prior over classes and the confusion channel of a checkpoint",
        function="comparison.blackwell_measure",
    ),
    Measure(
        name="expected_information_gain",
        row=12,
        unit="bits",
        definition="E_y D(P(X|y) ‖ prior) = I(X;Y)",
        source="Lindley 1956",
        computed_on="a prior over classes and the confusion channel of a checkpoint",
        function="comparison.expected_information_gain",
    ),
    Measure(
        name="bayes_risk",
        row=12,
        unit="the loss's",
        definition="Σ_y min_a Σ_x prior(x) P(y|x) loss(x,a)",
        source="Blackwell 1953; Torgersen 1991",
        computed_on="a confusion channel under stated costs",
        function="comparison.bayes_risk",
    ),
)
