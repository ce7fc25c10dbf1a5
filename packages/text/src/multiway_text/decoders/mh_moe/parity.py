"""How large an MH-MoE layer may be: equal operations and weights, by the formulas of both papers.

v2 (arXiv 2411.16205, section 3) holds operations and weights of an ordinary mixture (SMoE); v1 (arXiv 2404.15045,
section 3 and appendix) holds the weights and the number of experts, and computes about ``split_heads`` times as much.

With m matrices an expert (2, or 3 if gated), k experts a token, width d, inner width f, E experts and h heads, whose
experts work on d / h numbers:

    operations a token    2 (m k d f)      +  2 (2 d^2) for the two linear maps around the split, if h > 1
    weights               m (d / h) f E    +  2 d^2

(h sub-tokens of width d / h cost as much as one token of width d.) Gates and biases are not counted, as in the papers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from multiway_core.errors import InputError


@dataclass(frozen=True)
class MixtureSizes:
    """One mixture layer. Raises InputError for sizes that do not go together."""

    hidden_size: int
    expert_size: int
    """f, the inner width of an expert."""
    num_experts: int
    experts_per_token: int = 1
    """Of a sub-token, where tokens are split."""
    split_heads: int = 1
    gated: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden_size", "expert_size", "num_experts", "experts_per_token", "split_heads"):
            if getattr(self, name) < 1:
                raise InputError(f"mixture: {name} must be at least 1, not {getattr(self, name)}")
        if self.hidden_size % self.split_heads:
            raise InputError(
                f"mixture: split_heads {self.split_heads} does not divide hidden_size {self.hidden_size}"
            )
        if self.experts_per_token > self.num_experts:
            raise InputError(
                f"mixture: num_experts {self.num_experts} is below experts_per_token {self.experts_per_token}"
            )

    @property
    def matrices(self) -> int:
        """Of an expert."""
        return 3 if self.gated else 2

    @property
    def _around(self) -> int:
        return 2 * self.hidden_size**2 if self.split_heads > 1 else 0

    @property
    def weights(self) -> int:
        """Of experts and the two maps around them."""
        width = self.hidden_size // self.split_heads
        return self.matrices * width * self.expert_size * self.num_experts + self._around

    @property
    def operations(self) -> int:
        """Multiplications and additions a token."""
        used = self.matrices * self.hidden_size * self.expert_size * self.experts_per_token
        return 2 * (used + self._around)


def match_operations_and_weights(
    base: MixtureSizes, split_heads: int, experts_per_token: int | None = None
) -> MixtureSizes:
    """v2: an MH-MoE layer with the operations and weights of ``base``, an ordinary mixture.

    ``f_mh = (k f - 2 d / m) / k_mh`` (the paper's ``f - d / k`` for k alike and two matrices), then as many experts as
    the weights allow; both rounded to the nearest. ``experts_per_token``: that of ``base`` by default.

    Raises InputError where the two maps alone cost more than the mixture.
    """
    chosen = base.experts_per_token if experts_per_token is None else experts_per_token
    if base.split_heads != 1:
        raise InputError("the mixture to match must have split_heads 1")
    if split_heads == 1:
        return base
    if chosen < 1:
        raise InputError(f"experts_per_token must be at least 1, not {chosen}")
    size, matrices = base.hidden_size, base.matrices
    expert_size = round((base.experts_per_token * base.expert_size - 2 * size / matrices) / chosen)
    if expert_size < 1:
        raise InputError(
            f"nothing is left for experts: the maps around the split cost more than {base.experts_per_token} "
            f"experts of {base.expert_size}"
        )
    left = base.weights - 2 * size**2
    experts = max(1, round(left * split_heads / (matrices * size * expert_size)))
    return MixtureSizes(size, expert_size, experts, chosen, split_heads, base.gated)


def match_weights(base: MixtureSizes, split_heads: int) -> MixtureSizes:
    """v1: the same number of experts and weights; the inner width grows with ``split_heads``.

    ``f_mh = h (f - 2 d / (m E))``, which is the paper's ``4 beta d`` a head for f = 4 d, beta = 1 - 1 / (4 E).
    """
    if base.split_heads != 1:
        raise InputError("the mixture to match must have split_heads 1")
    if split_heads == 1:
        return base
    taken = 2 * base.hidden_size / (base.matrices * base.num_experts)
    expert_size = round(split_heads * (base.expert_size - taken))
    if expert_size < 1:
        raise InputError("nothing is left for experts: the maps around the split have more weights")
    return replace(base, expert_size=expert_size, split_heads=split_heads)
