"""What a channel can carry, and what a code must keep."""

from service.specs.catalogue.measure import Measure, Notebook

_CONFUSION = "the confusion channel of a task, P(answer | true class), at a checkpoint"
_EXPORT = "the weights of a quantised export: bits a weight against squared error"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="channel_capacity",
        row=13,
        unit="bits/use",
        definition="max over p(x) of I(X;Y), between certified bounds Σ p(x) D_x ≤ C ≤ max_x D_x with D_x = D(P(·|x) ‖ p(y))",
        source="Shannon 1948; Blahut 1972; Arimoto 1972; Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 7",
        computed_on=_CONFUSION,
        function="channels.channel_capacity",
        notebook=Notebook(
            formula="B lg(1+S/N)",
            verdict="incomplete",
            why="right as the special case of Shannon and Hartley; the general definition is a maximum over inputs",
        ),
        on="task",
        in_jobs=True,
        better="higher",
    ),
    Measure(
        name="shannon_hartley",
        row=13,
        unit="bits/s",
        definition="B lg(1 + S/N), the capacity of a channel of bandwidth B in white Gaussian noise",
        source="Shannon 1949; Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §9.3",
        computed_on="a channel of given bandwidth and ratio of powers",
        function="channels.shannon_hartley",
        aliases=("shannon_hartley_theorem",),
    ),
    Measure(
        name="awgn_capacity",
        row=13,
        unit="bits/use",
        definition="½ lg(1 + S/N) a real dimension, of the additive white Gaussian noise channel",
        source="Shannon 1948; Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §9.1",
        computed_on="each output dimension of a quantised export, its error taken as noise",
        function="channels.awgn_capacity",
    ),
    Measure(
        name="parallel_gaussian_capacity",
        row=13,
        unit="bits/use",
        definition="Σ ½ lg(1 + P_k/N_k) with P_k = (ν − N_k)⁺ and Σ P_k = P: water-filling",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §9.4",
        computed_on="the output dimensions of a quantised export together",
        function="channels.parallel_gaussian_capacity",
        aliases=("water_filling",),
    ),
    Measure(
        name="rate_distortion",
        row=15,
        unit="bits/symbol",
        definition="R(D) = min over p(z|x) with E d(x,z) ≤ D of I(X;Z), between certified bounds",
        source="Shannon 1959; Blahut 1972; Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 10",
        computed_on="a discrete source under a stated distortion",
        function="channels.rate_distortion",
        aliases=(
            "rate_distortion_function",
            "rate_distortion_theory",
        ),
        notebook=Notebook(formula="", verdict="named only", why="the notebook gives no formula"),
    ),
    Measure(
        name="distortion_rate",
        row=15,
        unit="the distortion's",
        definition="D(R) = min over p(z|x) with I(X;Z) ≤ R of E d(x,z), between certified bounds",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, ch. 10",
        computed_on="a discrete source under a stated distortion",
        function="channels.distortion_rate",
    ),
    Measure(
        name="gaussian_rate_distortion",
        row=15,
        unit="bits/symbol",
        definition="Σ ½ lg⁺(σ_k²/D_k), D_k = min(θ, σ_k²), Σ D_k = D; of one component ½ lg⁺(σ²/D)",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §10.3",
        computed_on=_EXPORT,
        function="channels.gaussian_rate_distortion",
        aliases=("reverse_water_filling",),
        on="weights",
        in_jobs=True,
    ),
    Measure(
        name="gaussian_distortion_rate",
        row=15,
        unit="the variance's",
        definition="σ² 2^{−2R}: the least squared error at R bits a symbol",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §10.3",
        computed_on=_EXPORT,
        function="channels.gaussian_distortion_rate",
    ),
)
