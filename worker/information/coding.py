"""Code lengths: what the best codes reach, and what compressors say of a string.

Shapes: K symbols with probabilities p_K and words of lengths_K, in bits; a symbol of probability 0 has no word, and length inf.

Sources: Shannon 1948; Kraft 1949; Huffman 1952; McMillan 1956; Cover and Thomas, Elements of Information Theory, 2nd ed. 2006,
ch. 5, 13 and 14; Cilibrasi and Vitányi 2005; Li and Vitányi, An Introduction to Kolmogorov Complexity, 3rd ed. 2008.
"""

import bz2
import heapq
import lzma
import math
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from worker.information.distributions import distribution, losses, probabilities
from worker.information.shannon import entropy


def _lzma(data: bytes) -> bytes:
    # a dictionary longer than the data finds no more, and takes 50 ms to clear
    dictionary = min(max(len(data), 2**12), 2**26)
    coder = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[coder])


# without headers, where the format has a form without: what a fixed decoder knows need not be in the string
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.compress(data, 9, wbits=-15),
    "lzma": _lzma,
    "bz2": lambda data: bz2.compress(data, 9),
}


def huffman_lengths(p_K: ArrayLike) -> np.ndarray:
    """[K] the word lengths of a shortest prefix code, whole numbers; a certain symbol has length 0. Huffman 1952."""
    p_K = distribution(p_K)
    lengths_K = np.where(p_K > 0, 0.0, np.inf)
    # the index breaks ties, so that lists are never compared
    heap = [(float(p_K[k]), int(k), [int(k)]) for k in np.flatnonzero(p_K)]
    heapq.heapify(heap)
    while len(heap) > 1:
        p_a, _, words_a = heapq.heappop(heap)
        p_b, first_b, words_b = heapq.heappop(heap)
        lengths_K[words_a + words_b] += 1
        heapq.heappush(heap, (p_a + p_b, first_b, words_a + words_b))
    return lengths_K


def shannon_lengths(p_K: ArrayLike) -> np.ndarray:
    """[K] ⌈−lg p⌉, whole numbers: a prefix code with those lengths exists, and is within a bit of H. Shannon 1948."""
    p_K = probabilities(p_K)
    _, exponents_K = np.frexp(p_K)  # p = m 2^e, ½ ≤ m < 1, exactly, so ⌈−lg p⌉ = 1 − e without a rounded logarithm
    return np.where(p_K > 0, np.maximum(1.0 - exponents_K, 0.0), np.inf)


def expected_length(p_K: ArrayLike, lengths_K: ArrayLike) -> float:
    """L = Σ p l, bits a symbol, with 0 · inf = 0; inf where a symbol that occurs has no word."""
    p_K, lengths_K = probabilities(p_K), np.asarray(lengths_K, dtype=np.float64)
    if not (lengths_K >= 0).all():
        raise ValueError("lengths are numbers ≥ 0")
    if p_K.shape != lengths_K.shape:
        raise ValueError(f"{p_K.size} symbols cannot have {lengths_K.size} lengths")
    return float((p_K[p_K > 0] * lengths_K[p_K > 0]).sum())


def code_redundancy(p_K: ArrayLike, lengths_K: ArrayLike) -> float:
    """L − H, bits a symbol: ≥ 0 for every uniquely decodable code, < 1 for Huffman's and Shannon's.

    A one-to-one code, which need not be decodable in a row, can have L < H.
    """
    return expected_length(p_K, lengths_K) - entropy(p_K)


def kraft_sum(lengths_K: ArrayLike, letters: int = 2) -> float:
    """Σ letters^{−l}: ≤ 1 iff a prefix code has these lengths (Kraft), and for every uniquely decodable code (McMillan)."""
    lengths_K = np.asarray(lengths_K, dtype=np.float64)
    if letters < 2 or not (lengths_K >= 0).all():
        raise ValueError("a code needs at least two letters, and lengths ≥ 0")
    return float((float(letters) ** -lengths_K).sum())


def block_code_bounds(entropy_rate_bits: float, block: int) -> tuple[float, float]:
    """H ≤ L*/n < H + 1/n, bits a symbol, for the best prefix code of blocks of n independent symbols. Cover and Thomas §5.4.2."""
    if not block >= 1 or not entropy_rate_bits >= 0:
        raise ValueError(f"blocks have at least one symbol and entropies are ≥ 0, here: {block} and {entropy_rate_bits!r}")
    return entropy_rate_bits, entropy_rate_bits + 1 / block


def one_to_one_length(p_K: ArrayLike) -> float:
    """Σ p_(i) ⌊lg i⌋ over symbols in order of falling p: the shortest code of single symbols, whose words may be prefixes, bits.

    At most H (Wyner 1972), and above H − lg(H+1) − lg e (Alon and Orlitsky 1994): what H bounds is a sequence of words.
    """
    falling_K = np.sort(distribution(p_K))[::-1]
    floors_K = np.array([i.bit_length() - 1 for i in range(1, len(falling_K) + 1)])
    return float(falling_K @ floors_K)


def arithmetic_code_bits(nll_bits_T: ArrayLike) -> float:
    """⌈Σ −lg p(x_t | x_<t)⌉ + 1 < Σ −lg p + 2: the whole bits in which an arithmetic coder with that model writes the text.

    So a language model's loss is an upper bound of K(text | model) too. Cover and Thomas §13.3. inf where p is 0.
    """
    total = math.fsum(losses(nll_bits_T).ravel()) if np.size(nll_bits_T) else 0.0
    return total if math.isinf(total) else max(math.ceil(total), 0) + 1


def compressed_bits(data: bytes, compressor: str = "lzma") -> int:
    """8 × the length that zlib (raw deflate), lzma (raw) or bz2 leaves of the data, at their strongest settings."""
    return 8 * len(_compressor(compressor)(data))


def kolmogorov_upper_bound(data: bytes) -> int:
    """The shortest of all compressors' and the data itself, + 2 bits that say which: K(data) ≤ this + a constant, the decoder's.

    K(x) = min {|p| : U(p) = x} cannot be computed, only bounded from above. This is at most 8 · length + 2.
    """
    return min([8 * len(data), *(compressed_bits(data, name) for name in COMPRESSORS)]) + 2


def conditional_kolmogorov_upper_bound(data: bytes, given: bytes) -> int:
    """K(data | given) ≤ this + a constant, bits: deflate with the last 32 KiB of `given` as its dictionary, or as without it."""
    dictionary = given[-(2**15) :]
    coder = (
        zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)
        if dictionary
        else zlib.compressobj(9, wbits=-15)
    )
    with_given = 8 * len(coder.compress(data) + coder.flush())
    return min(with_given + 2, kolmogorov_upper_bound(data))


def compression_ratio(data: bytes, compressor: str = "zlib") -> float:
    """Compressed over plain length: near 0 for text that loops, a little over 1 for noise. ValueError where there is no data."""
    if not data:
        raise ValueError("there is no data to compress")
    return compressed_bits(data, compressor) / (8 * len(data))


def normalized_compression_distance(x: bytes, y: bytes, compressor: str = "lzma") -> float:
    """(C(xy) − min(C(x), C(y))) / max(C(x), C(y)): near 0 for copies, near 1 for strangers, a little over 1 at most.

    Only as good as the compressor's memory: deflate sees 32 KiB back, bz2 900 kB. Cilibrasi and Vitányi 2005.
    """
    alone_x, alone_y = compressed_bits(x, compressor), compressed_bits(y, compressor)
    return (compressed_bits(x + y, compressor) - min(alone_x, alone_y)) / max(alone_x, alone_y)


def _compressor(name: str) -> Callable[[bytes], bytes]:
    if name not in COMPRESSORS:
        raise ValueError(f"there is no compressor {name!r}, only {', '.join(COMPRESSORS)}")
    return COMPRESSORS[name]
