"""Density matrices, and Gram matrices as such."""

from service.specs.catalogue.measure import Measure, Notebook

_NC = "Nielsen & Chuang, Quantum Computation and Quantum Information, 2000"
_STATES = "the covariance or the centred Gram matrix of a layer's hidden states, divided by its trace"
_GRAMS = "the Gram matrices of two layers, or of prompts and answers, on the same samples"
_GIRALDO = "Sánchez Giraldo, Rao & Príncipe 2015"

ROWS: tuple[Measure, ...] = (
    Measure(
        name="von_neumann_entropy",
        row=29,
        unit="bits",
        definition="S(ρ) = −Tr ρ lg ρ",
        source=f"von Neumann 1927; {_NC}, §11.3",
        computed_on=_STATES,
        aliases=("quantum_entropy",),
        notebook=Notebook(
            formula="von Neumann entropy, reversed relative entropy, conditional entropy, etc.",
            verdict="named only",
            why="three names as examples, and no formula",
        ),
        estimator="of N samples in d dimensions it is about d/(2N) nats too low: take N ≥ 10 d",
        function="quantum.von_neumann_entropy",
        on="hidden",
        in_jobs=True,
    ),
    Measure(
        name="quantum_effective_rank",
        row=29,
        unit="1",
        definition="2^S(ρ), from 1 to the dimension",
        source="Roy & Vetterli 2007; Friedman & Dieng 2023, the Vendi score",
        computed_on=_STATES + "; its fall against the base model's is a representation that collapses",
        aliases=("vendi_score",),
        function="quantum.quantum_effective_rank",
    ),
    Measure(
        name="quantum_relative_entropy",
        row=29,
        unit="bits",
        definition="S(ρ‖σ) = Tr ρ (lg ρ − lg σ); +inf where ρ reaches into the kernel of σ",
        source=f"Umegaki 1962; {_NC}, §11.3.1",
        computed_on=_STATES + ", of a checkpoint (ρ) and of its base (σ), with a little of the identity added to both",
        function="quantum.quantum_relative_entropy",
        on="hidden",
        in_jobs=True,
    ),
    Measure(
        name="reversed_quantum_relative_entropy",
        row=29,
        unit="bits",
        definition="S(σ‖ρ)",
        source=f"Umegaki 1962; {_NC}, §11.3.1",
        computed_on=_STATES + ", of a checkpoint (ρ) and of its base (σ), with a little of the identity added to both",
        function="quantum.reversed_quantum_relative_entropy",
    ),
    Measure(
        name="quantum_conditional_entropy",
        row=29,
        unit="bits",
        definition="S(A|B) = S(AB) − S(B), negative only where A and B are entangled",
        source=f"Cerf & Adami 1997; {_NC}, §11.4",
        computed_on="a density matrix of two systems",
        function="quantum.quantum_conditional_entropy",
    ),
    Measure(
        name="quantum_mutual_information",
        row=29,
        unit="bits",
        definition="S(A) + S(B) − S(AB)",
        source=f"{_NC}, §11.3.4",
        computed_on="a density matrix of two systems",
        function="quantum.quantum_mutual_information",
    ),
    Measure(
        name="matrix_based_entropy",
        row=29,
        unit="bits",
        definition="S_α(A) = (1/(1−α)) lg Tr A^α, A_ij = K_ij/(n √(K_ii K_jj)); von Neumann's at α = 1",
        source=_GIRALDO,
        computed_on="the Gram matrix of hidden states or of embedded answers",
        aliases=("matrix_entropy",),
        function="quantum.matrix_based_entropy",
    ),
    Measure(
        name="matrix_based_joint_entropy",
        row=29,
        unit="bits",
        definition="S_α(A∘B / Tr A∘B), ∘ the product by elements",
        source=_GIRALDO,
        computed_on=_GRAMS,
        function="quantum.matrix_based_joint_entropy",
    ),
    Measure(
        name="matrix_based_conditional_entropy",
        row=29,
        unit="bits",
        definition="S_α(A∘B / Tr A∘B) − S_α(B)",
        source=_GIRALDO,
        computed_on=_GRAMS + ": what the one tells apart that the other does not",
        function="quantum.matrix_based_conditional_entropy",
    ),
    Measure(
        name="matrix_based_mutual_information",
        row=29,
        unit="bits",
        definition="S_α(A) + S_α(B) − S_α(A∘B / Tr A∘B)",
        source=_GIRALDO,
        computed_on=_GRAMS,
        function="quantum.matrix_based_mutual_information",
    ),
)
