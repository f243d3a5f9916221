"""Information about parameters, and what leads what."""

from service.specs.catalogue.measure import Measure, Notebook

_SERIES = "two series of a run, step by step: learning rate, gradient norm, mixture weights, evaluation loss"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="fisher_information",
        row=10,
        unit="nats per squared unit of the parameter",
        definition="E[(∂ ln f/∂θ)²] = −E[∂² ln f/∂θ²]; for several parameters the matrix E[s sᵀ] of the scores s",
        source="Cover & Thomas 2006, §11.10; Lehmann & Casella, Theory of Point Estimation, 2nd ed. 1998, §2.5",
        computed_on="gradients of the log-likelihood by the trained parameters, of answers that the model itself drew",
        notebook=Notebook(
            formula="−E[∂² ln f/∂θ²], E[(∂ ln f/∂θ)²], Var ≥ 1/I",
            verdict="correct",
            why="but the bound is for unbiased estimators, 1/(nI) for n samples, and is not reached “when Fisher information is "
            "maximized”: it is reached exactly where the score is affine in the estimator",
        ),
        estimator="mean of the scores' outer products",
        function="fisher.fisher_information",
        on="gradient",
        in_jobs=True,
    ),
    Measure(
        name="bernoulli_fisher_information",
        row=10,
        unit="nats",
        definition="1/(p(1−p))",
        source="Lehmann & Casella 1998, §2.5",
        computed_on="a success rate",
        function="fisher.bernoulli_fisher_information",
    ),
    Measure(
        name="gaussian_mean_fisher_information",
        row=10,
        unit="nats per squared unit of the mean",
        definition="Σ⁻¹",
        source="Lehmann & Casella 1998, §2.5",
        computed_on="a covariance",
        function="fisher.gaussian_mean_fisher_information",
    ),
    Measure(
        name="cramer_rao_bound",
        row=10,
        unit="squared unit of the parameter",
        definition="1/(n I), or the matrix (n I)⁻¹: the least variance of an unbiased estimator from n samples",
        source="Rao 1945; Cramér 1946; Cover & Thomas 2006, §11.10",
        computed_on="a Fisher information: the error bar of a fitted temperature",
        aliases=("cramer_rao_lower_bound",),
        function="fisher.cramer_rao_bound",
    ),
    Measure(
        name="temperature_fisher_information",
        row=10,
        unit="nats²/token",
        definition="Var_p(z), p = softmax(z): information of one draw about the inverse temperature β at 1, the second "
        "derivative of ln Σ e^{βz}",
        source="Cover & Thomas 2006, §11.10; Brown, Fundamentals of Statistical Exponential Families, 1986, ch. 1",
        computed_on="a checkpoint's logits",
        function="fisher.temperature_fisher_information",
        on="tokens",
        in_jobs=True,
        default=True,
    ),
    Measure(
        name="fisher_predicted_kl",
        row=10,
        unit="bits",
        definition="½ δᵀ F δ / ln 2: the divergence that a step δ of the parameters makes, to second order",
        source="Kullback, Information Theory and Statistics, 1959, §2.6; Kirkpatrick et al. 2017 (arXiv 1612.00796)",
        computed_on="a change of the trained parameters, and their Fisher information or its diagonal",
        aliases=("elastic_weight_consolidation",),
        function="fisher.fisher_predicted_kl",
    ),
    Measure(
        name="granger_causality",
        row=17,
        unit="bits",
        definition="lg of the residual variance without the cause's past over that with it, and the F-test of its coefficients",
        source="Granger 1969, Econometrica 37, 424–438; Geweke 1982",
        computed_on=_SERIES,
        aliases=("geweke_measure",),
        notebook=Notebook(
            formula="",
            verdict="named only",
            why="it is the F-test of the cause's lags in a vector autoregression; of Gaussian series its measure is twice the "
            "transfer entropy",
        ),
        estimator="least squares; difference series that wander, and have 100 points at least",
        function="fisher.granger_causality",
        on="series",
        in_jobs=True,
    ),
    Measure(
        name="gaussian_transfer_entropy",
        row=17,
        unit="bits",
        definition="I(Y_t; past of X | past of Y) of Gaussian series: half of Geweke's measure",
        source="Schreiber 2000; Barnett, Barrett & Seth 2009, Physical Review Letters 103, 238701",
        computed_on=_SERIES,
        estimator="least squares",
        function="fisher.gaussian_transfer_entropy",
    ),
)
