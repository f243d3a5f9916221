"""Entropies and divergences after Shannon, of one distribution, of two, and of several variables."""

from service.specs.catalogue.measure import Measure

_HELD_OUT = "the scored tokens of the evaluation documents"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="cross_entropy",
        row=5,
        unit="bits/token",
        definition="−Σ lg p(y_t | y_<t) / Σ n_tokens, summed over the scored tokens of all documents",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §2.3 and §5.4",
        computed_on=_HELD_OUT,
        in_jobs=True,
        default=True,
    ),
    Measure(
        name="perplexity",
        row=36,
        unit="1",
        definition="2 to the power of cross_entropy; of the whole corpus, not a mean of per-text perplexities",
        source="Jelinek, Mercer, Bahl & Baker 1977; Jurafsky & Martin, Speech and Language Processing, ch. 3",
        computed_on=_HELD_OUT,
        in_jobs=True,
        default=True,
    ),
    Measure(
        name="bits_per_byte",
        row=5,
        unit="bits/byte",
        definition="−Σ lg p(y_t | y_<t) / Σ UTF-8 bytes of the scored text; comparable across tokenizers",
        source="Cover & Thomas 2006, §5.4; Gao et al. 2020, The Pile (arXiv 2101.00027), §3.1",
        computed_on=_HELD_OUT,
        in_jobs=True,
        default=True,
    ),
    Measure(
        name="entropy",
        row=1,
        unit="bits/token",
        definition="mean over scored tokens of H(p_t) = −Σ_v p_t(v) lg p_t(v), the model's own uncertainty",
        source="Shannon 1948; Cover & Thomas 2006, §2.1",
        computed_on=_HELD_OUT,
        in_jobs=True,
        default=True,
    ),
    Measure(
        name="kl_from_base",
        row=4,
        unit="bits/token",
        definition="mean over scored tokens of D(q_t ‖ p_t), q the base model and p the checkpoint: what the base knew "
        "and the checkpoint gave up; it predicts forgetting",
        source="Kullback & Leibler 1951; Cover & Thomas 2006, §2.3",
        computed_on=_HELD_OUT,
        in_jobs=True,
        default=True,
    ),
    Measure(
        name="kl_to_base",
        row=4,
        unit="bits/token",
        definition="mean over scored tokens of D(p_t ‖ q_t), p the checkpoint and q the base model: how far the "
        "checkpoint's own predictions have moved",
        source="Kullback & Leibler 1951; Cover & Thomas 2006, §2.3",
        computed_on=_HELD_OUT,
        in_jobs=True,
        default=True,
    ),
)
