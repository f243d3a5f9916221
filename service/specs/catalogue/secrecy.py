"""What an observer is left not knowing of a secret."""

from service.specs.catalogue.measure import Measure, Notebook

ROWS: tuple[Measure, ...] = (
    Measure(
        name="equivocation",
        row=32,
        unit="bits",
        definition="H(S|O) = −Σ p(s,o) lg p(s|o), of a secret S from what is observed of it",
        source="Shannon 1949, Communication Theory of Secrecy Systems, §12",
        computed_on="a secret or a true label, and the output of a checkpoint that was asked for it",
        notebook=Notebook(
            formula="−Σ p(k,c) lg p(k|c)",
            verdict="incomplete",
            why="the formula is the equivocation of the key, the text describes that of the message",
        ),
        estimator="counts of secrets and outputs, corrected as conditional_entropy is; with fano_bound, a bound on every guess",
        function="secrecy.equivocation",
        on="task",
        in_jobs=True,
        better="lower",
    ),
    Measure(
        name="message_equivocation",
        row=32,
        unit="bits",
        definition="H(M|C) of a cipher, messages and keys independent; it is H(M) iff the secrecy is perfect",
        source="Shannon 1949, §10 and §12",
        computed_on="a cipher: the distributions of messages and keys, and the table of cryptograms",
        function="secrecy.message_equivocation",
    ),
    Measure(
        name="key_equivocation",
        row=32,
        unit="bits",
        definition="H(K|C) of a cipher, H(K) + H(M) − H(C) where each key can be undone",
        source="Shannon 1949, §13",
        computed_on="a cipher: the distributions of messages and keys, and the table of cryptograms",
        function="secrecy.key_equivocation",
    ),
    Measure(
        name="fano_bound",
        row=32,
        unit="1",
        definition="the least error P of any guess: h(P) + P lg(n−1) = H(S|O), S having n values",
        source="Cover & Thomas, Elements of Information Theory, 2nd ed. 2006, §2.10",
        computed_on="an equivocation: of labels given predictions it is the task's ceiling",
        function="secrecy.fano_bound",
        on="task",
        in_jobs=True,
        better="lower",
    ),
    Measure(
        name="exposure",
        row=32,
        unit="bits",
        definition="lg|R| − lg rank, of a planted canary among the candidates R as the checkpoint's likelihood orders them",
        source="Carlini, Liu, Erlingsson, Kos & Song 2019, The Secret Sharer (arXiv 1802.08232), §4",
        computed_on="canaries that were planted in the training set, and candidates that were not",
        aliases=("canary_exposure",),
        function="secrecy.exposure",
    ),
)
