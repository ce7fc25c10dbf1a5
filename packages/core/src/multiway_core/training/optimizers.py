"""Which optimizer moves which parameter, and the optimizers' state as plain named tensors."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from multiway_core.training.config import TrainConfig, learning_rate_ratio
from multiway_core.training.replicas import is_sharded

IsEmbeddingLike = Callable[[str, nn.Parameter, nn.Module], bool]


def is_embedding_like(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Default rule for what Muon and weight decay leave alone although it is two-dimensional.

    True for the weights of embeddings (also of modules that are called so), for learned vectors (parameters with
    "embed", "latent", "position", "queries" or "token" in their own name), and for output heads (a module called
    "head", "lm_head", "classifier", "output_projection", or whatever ends in "_head"). `name` is the dotted
    name, `module` the module that owns the parameter.
    """
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return True
    *owners, own = name.split(".")
    owner = owners[-1] if owners else ""
    if owner in {"head", "lm_head", "classifier", "output_projection"} or owner.endswith("_head"):
        return True
    return "embed" in owner or any(
        word in own for word in ("embed", "latent", "position", "queries", "token")
    )


def build_optimizers(
    model: nn.Module, config: TrainConfig, embedding_like: IsEmbeddingLike = is_embedding_like
) -> list[torch.optim.Optimizer]:
    """Optimizers that together move every parameter that requires a gradient, each exactly once.

    AdamW: everything, or with `optimizer="muon"` all but the two-dimensional matrices that are not
    `embedding_like`. Their state is made here and not at the first step, so that saving and loading have the
    same names at every step.
    """
    # By the ratio of the learning rate.
    muon: dict[float, list[nn.Parameter]] = {}
    decayed: dict[float, list[nn.Parameter]] = {}
    undecayed: dict[float, list[nn.Parameter]] = {}
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner = modules[name.rpartition(".")[0]]
        if parameter.ndim < 2 or embedding_like(name, parameter, owner):
            kind = undecayed
        elif config.optimizer == "muon" and parameter.ndim == 2:
            kind = muon
        else:
            kind = decayed
        kind.setdefault(learning_rate_ratio(name, config), []).append(parameter)

    optimizers: list[torch.optim.Optimizer] = []
    if decayed or undecayed:
        groups = [
            {"params": parameters, "weight_decay": decay, "ratio": ratio}
            for kind, decay in ((decayed, config.weight_decay), (undecayed, 0.0))
            for ratio, parameters in kind.items()
        ]
        optimizers.append(torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True))
    if muon:
        kind_of_muon = torch.optim.Muon
        if is_sharded(next(iter(muon.values()))[0]):
            from multiway_core.training.sharding import ShardedMuon as kind_of_muon
        optimizers.append(
            kind_of_muon(
                [{"params": parameters, "ratio": ratio} for ratio, parameters in muon.items()],
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                momentum=config.muon_momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    for optimizer in optimizers:
        for parameter in chain.from_iterable(group["params"] for group in optimizer.param_groups):
            optimizer.state[parameter] = _initial_state(optimizer, parameter)
    return optimizers


def _initial_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    # The same tensors that the optimizers make when they first see a gradient.
    if isinstance(optimizer, torch.optim.Muon):
        return {"momentum_buffer": torch.zeros_like(parameter)}
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def set_learning_rate(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    """Give every parameter group the rate, times its ratio."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["ratio"]


def optimizer_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The live state tensors by "<slot>.<parameter name>"; writing into them sets the state."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for slot, tensor in optimizer.state.get(parameter, {}).items():
                tensors[f"{slot}.{name}"] = tensor
    return tensors
