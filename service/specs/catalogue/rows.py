"""What the rows of a data set are like before anything is trained on them."""

from service.specs.catalogue.measure import Measure

_INSPECTED = "the rows of a data set (a step that inspects)"
_WORDS = "n-grams of 5 words; of a row with fewer, all of them"
_ZLIB = "Li & Vitányi, An Introduction to Kolmogorov Complexity, 3rd ed. 2008, §8.3"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="row_length",
        unit="tokens",
        definition="the tokens of a row before anything is cut; as row_length:mean, :p50, :p90, :p99 and :max",
        source="Hyndman & Fan 1996, The American Statistician 50, 361–365 (definition 7)",
        computed_on=_INSPECTED,
        estimator="of all rows",
        on="rows",
    ),
    Measure(
        name="overlong_share",
        unit="1",
        definition="the share of rows that are longer than cutoff_len",
        source="Cochran 1977, Sampling Techniques, 3rd ed., §3.2",
        computed_on=_INSPECTED,
        estimator="mean over rows",
        on="rows",
    ),
    Measure(
        name="trained_share",
        unit="1",
        definition="the share of tokens, after cutting, that are trained and not masked",
        source="Cochran 1977, Sampling Techniques, 3rd ed., §6.1",
        computed_on=_INSPECTED,
        estimator="ratio of sums over rows",
        on="rows",
    ),
    Measure(
        name="pair_coverage",
        unit="1",
        definition="1 − f1/N of pairs of successive tokens, f1 the pairs seen once",
        source="Good 1953, Biometrika 40, 237–264",
        computed_on=_INSPECTED,
        estimator="itself; a conditional entropy with less than 0.9 is a lower bound",
        on="rows",
    ),
    Measure(
        name="duplicate_share",
        unit="1",
        definition="the share of rows whose text an earlier row has, byte for byte",
        source="Lee et al. 2022, Deduplicating Training Data Makes Language Models Better (arXiv 2107.06499)",
        computed_on=_INSPECTED,
        estimator="of all rows",
        on="rows",
    ),
    Measure(
        name="near_duplicate_share",
        unit="1",
        definition=f"the share of rows of whose {_WORDS}, at least four fifths stand in one earlier row",
        source="Broder 1997, On the resemblance and containment of documents; Lee et al. 2022 (arXiv 2107.06499)",
        computed_on=_INSPECTED,
        estimator="of all rows; exact duplicates are among them",
        on="rows",
    ),
    Measure(
        name="redundant_share",
        unit="1",
        definition="1 − K(x|x')/K(x), x' the other row that shares the most n-grams with x: what deflate saves by knowing it",
        source=_ZLIB,
        computed_on=_INSPECTED,
        estimator="deflate, mean over a sample of rows; near 1 for copies",
        on="rows",
    ),
    Measure(
        name="leaked_share",
        unit="1",
        definition=f"the share of held-out rows of whose {_WORDS}, at least four fifths stand in one training row",
        source="Broder 1997; Brown et al. 2020, Language Models are Few-Shot Learners, App. C (arXiv 2005.14165)",
        computed_on=_INSPECTED,
        estimator="of all held-out rows",
        on="rows",
    ),
    Measure(
        name="leaked_bits_share",
        unit="1",
        definition="1 − K(x|x')/K(x) of held-out rows x, x' the training row that shares the most n-grams with x",
        source=_ZLIB,
        computed_on=_INSPECTED,
        estimator="deflate, mean over a sample of held-out rows; near 1 for copies",
        on="rows",
    ),
)
