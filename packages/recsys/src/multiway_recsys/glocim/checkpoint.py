"""Our model folders, and the checkpoints that the code of GLORY and of GLoCIM writes (``{model}_..._auc{x}.pth``).

A published file is a dictionary with ``model_state_dict``; names of the three known layouts are translated by tables.
Word, entity and news numbers are not in it: they lie in pickled dictionaries beside it, which we do not read. Their
owner writes them as JSON; see `multiway_recsys.text.tokens.Vocabulary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import checkpoint, model_folder
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from multiway_core.files import atomic_write
from torch import Tensor

from multiway_recsys.glocim.config import GLOCIM_INTENDED, GLORY, GlocimConfig
from multiway_recsys.glocim.model import Glocim

PUBLISHED_KEY = "model_state_dict"


def save(model: Glocim, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``. Raises OutputError."""
    model_folder.save(model, model.config, folder, dtype=dtype)


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Glocim:
    """The model in a folder that :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    return model_folder.load(Glocim, GlocimConfig, folder, dtype=dtype, device=device)


def _attention(published: str, ours: str) -> list[Rule]:
    names = {"W_Q": "query", "W_K": "key", "W_V": "value"}
    return [Rule(f"{published}.{theirs}.{{kind}}", f"{ours}.{own}.{{kind}}") for theirs, own in names.items()]


def _pooling(published: str, ours: str) -> list[Rule]:
    names = {"att_fc1": "hidden", "att_fc2": "score"}
    return [Rule(f"{published}.{theirs}.{{kind}}", f"{ours}.{own}.{{kind}}") for theirs, own in names.items()]


def _block(published: str, ours: str) -> list[Rule]:
    return [
        *_attention(f"{published}.module_1", f"{ours}.attention"),
        Rule(f"{published}.module_2.{{kind}}", f"{ours}.attention_norm.{{kind}}"),
        *_pooling(f"{published}.module_4", f"{ours}.pooling"),
        Rule(f"{published}.module_5.{{kind}}", f"{ours}.norm.{{kind}}"),
    ]


def _shared(graph: str, *, entities: bool) -> list[Rule]:
    last = 2 if entities else 0
    return [
        Rule("local_news_encoder.word_encoder.weight", "local_news_encoder.words.weight"),
        Rule(f"{graph}.module_0.{{rest*}}", "neighbour_interest.{rest*}"),
        Rule("entity_embedding_layer.weight", "entity_table.weight"),
        *_block("local_entity_encoder.module_1.atte", "local_entity_encoder.block"),
        Rule("local_entity_encoder.module_1.atte.module_6.{kind}", "local_entity_encoder.projection.{kind}"),
        *_block("global_entity_encoder.module_1.atte", "global_entity_encoder.block"),
        *_pooling("click_encoder.atte.module_1", "click_encoder.pooling"),
        *_attention("user_encoder.atte.module_0", "user_encoder.attention"),
        *_pooling("user_encoder.atte.module_1", "user_encoder.pooling"),
        *_pooling("candidate_encoder.atte.module_1", "candidate_encoder.pooling"),
        Rule(f"candidate_encoder.atte.module_{last}.{{kind}}", "candidate_encoder.projection.{kind}"),
    ]


_TITLE = "local_news_encoder.title.encoder"
_TIED = ("local_entity_encoder.module_0.weight", "global_entity_encoder.module_0.weight")
_IDLE = (  # of the attention over a single token: softmax is one whatever they hold
    "local_news_encoder.attention.module_1.W_Q.{kind}",
    "local_news_encoder.attention.module_1.W_K.{kind}",
    "local_news_encoder.attention.module_4.{part}.{kind}",
)


def _glory(*, entities: bool) -> RuleTable:
    rules = _block("local_news_encoder.attention", _TITLE) + _shared("global_news_encoder", entities=entities)
    return RuleTable(rules, dropped=_TIED)


def _glocim(mha: str, first_norm: str, pooling: str, last_norm: str, *, entities: bool) -> RuleTable:
    chain = "global_news_long_encoder"
    rules = [
        *_block("local_news_encoder.attetio", _TITLE),
        Rule("local_news_encoder.attention.module_1.W_V.{kind}", "local_news_encoder.released.value.{kind}"),
        Rule(
            "local_news_encoder.attention.module_2.{kind}",
            "local_news_encoder.released.attention_norm.{kind}",
        ),
        Rule("local_news_encoder.attention.module_5.{kind}", "local_news_encoder.released.norm.{kind}"),
        Rule("local_news_encoder.last_encoder.{kind}", "local_news_encoder.released.output.{kind}"),
        *_attention(f"{chain}.{mha}", "chain_encoder.attention"),
        Rule(f"{chain}.{first_norm}.{{kind}}", "chain_encoder.attention_norm.{kind}"),
        *_pooling(f"{chain}.{pooling}", "chain_encoder.pooling"),
        Rule(f"{chain}.{last_norm}.{{kind}}", "chain_encoder.norm.{kind}"),
        Rule("feature_gate.f_dense.{kind}", "gate.fused.{kind}"),
        Rule("feature_gate.g_dense.{kind}", "gate.gate.{kind}"),
        *_shared("global_news_short_encoder", entities=entities),
    ]
    return RuleTable(rules, dropped=(*_TIED, *_IDLE))


def published_rules(names: Mapping[str, Tensor], *, where: str) -> RuleTable:
    """The table of the layout that has such names: GLORY, GLoCIM or GLoCIM-Simple. Raises CheckpointError."""
    entities = "entity_embedding_layer.weight" in names
    if "global_news_encoder.module_0.weight" in names:
        return _glory(entities=entities)
    if "global_news_long_encoder.mha.W_Q.weight" in names:
        return _glocim("mha", "ln_after_flat", "pool", "ln_out", entities=entities)
    if "global_news_long_encoder.attt.module_1.W_Q.weight" in names:
        return _glocim(*(f"attt.module_{place}" for place in (1, 4, 6, 7)), entities=entities)
    raise CheckpointError(f"{where}: neither a GLORY nor a GLoCIM checkpoint, by the names of its tensors")


def load_published(path: Path, *, key: str | None = PUBLISHED_KEY) -> Glocim:
    """The model in a file that the code of GLORY, GLoCIM or GLoCIM-Simple wrote, in evaluation mode.

    Sizes of the tables are taken from the file, heads and the other settings from the published configs.
    ``key=None`` for a bare state dictionary or safetensors. Raises CheckpointError.
    """
    tensors = dict(checkpoint.read(path, key))
    if tensors and all(name.startswith("module.") for name in tensors):  # saved from DistributedDataParallel
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    rules = published_rules(tensors, where=str(path))
    model = Glocim(config_of_published(tensors, where=str(path)))
    ours: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        try:
            own = rules.to_ours(name)
        except CheckpointError:
            unknown.append(name)
            continue
        if own is not None:
            ours[own] = tensor
    targets = model.state_dict()
    misshaped = [
        f"{name}: file has {list(ours[name].shape)}, model needs {list(target.shape)}"
        for name, target in targets.items()
        if name in ours and ours[name].shape != target.shape
    ]
    missing = [name for name in targets if name not in ours]
    unknown += [name for name in ours if name not in targets]
    if missing or unknown or misshaped:
        raise CheckpointError(
            f"{path} does not fit the published model",
            missing=missing,
            unexpected=unknown,
            misshaped=misshaped,
        )
    model.load_state_dict(ours)
    return model.eval()


def config_of_published(tensors: Mapping[str, Tensor], *, where: str) -> GlocimConfig:
    """The config of a published state dictionary; categories are not counted, since its tables have none."""
    try:
        words = tensors["local_news_encoder.word_encoder.weight"]
        width = tensors["user_encoder.atte.module_0.W_V.weight"].shape[0]
        hidden = tensors["user_encoder.atte.module_1.att_fc1.weight"].shape[0]
        graph = next(
            tensors[name] for name in tensors if name.endswith("_encoder.module_0.weight") and _is_graph(name)
        )
    except (KeyError, StopIteration) as error:
        raise CheckpointError(
            f"{where}: lacks {error}, which every GLORY and GLoCIM checkpoint has"
        ) from None
    base = GLOCIM_INTENDED if "feature_gate.f_dense.weight" in tensors else GLORY
    if width % base.num_heads:
        raise CheckpointError(f"{where}: a width of {width} does not divide into {base.num_heads} heads")
    entities = tensors.get("entity_embedding_layer.weight")
    return replace(
        base,
        head_dim=width // base.num_heads,
        attention_hidden_size=hidden,
        word_dim=words.shape[1],
        num_words=words.shape[0],
        graph_layers=graph.shape[0],
        entities=entities is not None,
        num_entities=0 if entities is None else entities.shape[0],
        entity_dim=base.entity_dim if entities is None else entities.shape[1],
    )


def _is_graph(name: str) -> bool:
    return name.startswith("global_news_")


def published_state(model: Glocim) -> dict[str, Tensor]:
    """The tensors of a GLORY or GLoCIM model by the names of the published code, complete for ``load_state_dict``.

    Tensors that exist there without effect (attention over a single token) are zeros.
    """
    own = model.config
    is_ours = own.category not in ("none", "released") or own.chain not in ("none", "released")
    if is_ours or own.residual or own.text != "words":
        raise CheckpointError(
            "only the presets glory, glocim-released and glocim-intended have published names"
        )
    is_glocim = own.chain == "released"
    if is_glocim:
        rules = _glocim(*(f"attt.module_{place}" for place in (1, 4, 6, 7)), entities=own.entities)
    else:
        rules = _glory(entities=own.entities)
    state = {rules.to_published(name): tensor.detach() for name, tensor in model.state_dict().items()}
    if own.entities:
        state |= dict.fromkeys(_TIED, state["entity_embedding_layer.weight"])
    if is_glocim:
        inner = state["local_news_encoder.last_encoder.weight"].shape[1]
        width = state["local_news_encoder.attention.module_1.W_V.weight"].shape[1]
        prefix = "local_news_encoder.attention"
        shapes = {
            "module_1.W_Q.weight": (inner, width),
            "module_1.W_Q.bias": (inner,),
            "module_1.W_K.weight": (inner, width),
            "module_4.att_fc1.weight": (own.attention_hidden_size, inner),
            "module_4.att_fc1.bias": (own.attention_hidden_size,),
            "module_4.att_fc2.weight": (1, own.attention_hidden_size),
            "module_4.att_fc2.bias": (1,),
        }
        state |= {f"{prefix}.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    return state


def save_published(model: Glocim, path: Path) -> None:
    """Write a ``.pth`` that the published code loads. Raises CheckpointError, OutputError."""
    state = published_state(model)
    with atomic_write(path) as file:
        torch.save({PUBLISHED_KEY: state}, file)
