"""XNLG against `transformers`' XLM and torch's decoder layer; its search against a slow one; files; training."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, ConfigError, DataError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_text.data.corruption import Vocabulary
from multiway_text.xnlg import checkpoint
from multiway_text.xnlg.checkpoint import RULES, Loaded
from multiway_text.xnlg.config import EOS, MASK, PAD, SPECIAL, UNK, XnlgConfig
from multiway_text.xnlg.corpus import Corpus, vocabularies
from multiway_text.xnlg.model import Xnlg
from multiway_text.xnlg.objective import Noise, Text, cloze, framed, pairs, pairs_loss
from multiway_text.xnlg.pipeline import XnlgPipeline
from multiway_text.xnlg.recipe import RECIPES
from multiway_text.xnlg.search import Search, Target, generate

CONFIG = XnlgConfig(
    ("de", "en", "fr"), 60, 24, 3, 2, 3, 40, 30, norm_eps=3e-4, dropout=0.0, max_source=20, max_target=12
)

SEARCH = Search(max_length=12)


def perturbed(config: XnlgConfig = CONFIG, seed: int = 0, scale: float = 0.3) -> Xnlg:
    torch.manual_seed(seed)
    model = Xnlg(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model


def texts(*lengths: int, seed: int = 0) -> list[Text]:
    generator = np.random.default_rng(seed)
    return [Text(generator.integers(14, 60, length), number % 3) for number, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def xlm():
    """`transformers`' encoder, every tensor perturbed, with the config of ours."""
    from transformers import XLMConfig, XLMModel

    config = XLMConfig(
        vocab_size=60, emb_dim=24, n_layers=3, n_heads=3, n_langs=3, max_position_embeddings=30, use_lang_emb=True,
        gelu_activation=True, layer_norm_eps=3e-4, sinusoidal_embeddings=False, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(3)
    model = XLMModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def from_xlm(theirs) -> Xnlg:
    ours = Xnlg(dataclasses.replace(CONFIG, inner_size=96)).eval()
    names = {name: t for name, t in theirs.state_dict().items() if name != "position_ids"}
    found = {RULES.to_ours(f"encoder.{name}").removeprefix("encoder."): t for name, t in names.items()}
    ours.encoder.load_state_dict({**found, "output_bias": torch.zeros(60)})
    return ours


def test_the_encoder_is_xlms(xlm) -> None:
    ours = from_xlm(xlm)
    rows = [framed(text.ids, 20) for text in texts(9, 4, 12)]
    ids_BT = torch.full((3, 14), PAD)
    for row, ids in enumerate(rows):
        ids_BT[row, : len(ids)] = torch.from_numpy(ids)
    valid_BT = ids_BT != PAD
    languages_BT = torch.randint(3, ids_BT.shape, generator=torch.Generator().manual_seed(0))
    positions_BT = torch.arange(14).expand_as(ids_BT).clone()
    positions_BT[0, 6:] -= 6  # the second text of a pair
    with torch.no_grad():
        theirs = xlm(
            ids_BT, attention_mask=valid_BT.long(), langs=languages_BT, position_ids=positions_BT
        ).last_hidden_state
        found = ours.encode(ids_BT, valid_BT, languages_BT, positions_BT)
        assert torch.allclose(found[valid_BT], theirs[valid_BT], atol=1e-5)
        # Mistakes that must not pass: languages off, positions that count on, another eps.
        for wrong in (
            ours.encode(ids_BT, valid_BT, (languages_BT + 1) % 3, positions_BT),
            ours.encode(ids_BT, valid_BT, languages_BT),
        ):
            assert not torch.allclose(wrong[valid_BT], theirs[valid_BT], atol=1e-3)


def torch_layer(model: Xnlg, index: int) -> torch.nn.TransformerDecoderLayer:
    """torch's own decoder layer with the weights of ours, by the published names."""
    config = model.config
    layer = torch.nn.TransformerDecoderLayer(
        config.hidden_size, config.num_heads, config.inner_size, 0.0, "gelu", config.norm_eps, batch_first=True
    ).eval()  # fmt: skip
    published = {RULES.to_published(f"decoder.{name}"): t for name, t in model.decoder.state_dict().items()}
    own = {
        name.replace(f".{index}.", ".", 1).removeprefix("decoder."): tensor
        for name, tensor in published.items()
        if f".{index}." in name
    }
    state = {}
    for theirs, ours in (("self_attn", "attentions"), ("multihead_attn", "encoder_attn")):
        for part in ("weight", "bias"):
            state[f"{theirs}.in_proj_{part}"] = torch.cat([own[f"{ours}.{p}_lin.{part}"] for p in "qkv"])
            state[f"{theirs}.out_proj.{part}"] = own[f"{ours}.out_lin.{part}"]
    names = {"linear1": "ffns.lin1", "linear2": "ffns.lin2"}
    names |= {"norm1": "layer_norm1", "norm2": "layer_norm15", "norm3": "layer_norm2"}
    state |= {
        f"{theirs}.{part}": own[f"{ours}.{part}"]
        for theirs, ours in names.items()
        for part in ("weight", "bias")
    }
    layer.load_state_dict(state)
    return layer


def test_the_decoder_layer_is_torchs() -> None:
    from multiway_blocks.attention import causal_mask, padding_mask
    from multiway_blocks.transformer import Context

    model = perturbed()
    x_BTE, memory_BSE = torch.randn(2, 7, 24), torch.randn(2, 9, 24)
    valid_BS = torch.arange(9)[None] < torch.tensor([[9], [5]])
    context = Context(mask=causal_mask(7, 7), memory_BME=memory_BSE, memory_mask=padding_mask(valid_BS))
    with torch.no_grad():
        for index, block in enumerate(model.decoder.stack.layers):
            layer = torch_layer(model, index)
            mask = torch.nn.Transformer.generate_square_subsequent_mask(7)
            theirs = layer(x_BTE, memory_BSE, tgt_mask=mask, memory_key_padding_mask=~valid_BS)
            assert torch.allclose(block(x_BTE, context, index), theirs, atol=1e-5)
            # A planted mistake: the norms of the two attentions change places.
            block.attention_norm, block.cross_attention_norm = (
                block.cross_attention_norm,
                block.attention_norm,
            )
            assert not torch.allclose(block(x_BTE, context, index), theirs, atol=1e-3)


def slow_search(
    model: Xnlg, source: Text, language: int, search: Search, allowed
) -> list[tuple[float, list[int]]]:
    """Section "decoding" of the paper's code, without a cache, a hypothesis at a time: the stored ones, best first."""
    ids_1S = torch.from_numpy(framed(source.ids, 20))[None]
    valid_1S = torch.ones_like(ids_1S, dtype=torch.bool)
    memory = model.encode(ids_1S, valid_1S, torch.full_like(ids_1S, source.language))
    beams = [(0.0, [EOS])] + [(-1e9, [EOS])] * (search.num_beams - 1)
    stored: list[tuple[float, list[int]]] = []
    longest = search.max_length or model.config.max_target
    for length in range(1, longest):
        candidates = []
        for score, written in beams:
            tokens = torch.tensor([written])
            hidden = model.decode(tokens, torch.full_like(tokens, language), memory, valid_1S)
            logits = model.decoder.logits(hidden[0, -1])
            if allowed is not None:
                kept = torch.full_like(logits, -math.inf)
                kept[allowed] = logits[allowed]
                logits = kept
            log_probs = logits.log_softmax(-1)
            candidates += [(score + float(lp), token, written) for token, lp in enumerate(log_probs)]
        candidates.sort(key=lambda item: -item[0])
        candidates = [item for item in candidates[: 2 * search.num_beams] if item[0] > -1e8]
        worst = min((score for score, _ in stored), default=0.0)
        if len(stored) == search.num_beams and (
            search.early_stopping or worst >= candidates[0][0] / (longest - 1) ** search.length_penalty
        ):
            break
        beams = []
        for score, token, written in candidates:
            if token == EOS or length + 1 == longest:
                stored.append((score / length**search.length_penalty, written[1:]))
                stored.sort(key=lambda item: -item[0])
                del stored[search.num_beams :]
            else:
                beams.append((score, [*written, token]))
            if len(beams) == search.num_beams:
                break
    return stored


@pytest.mark.parametrize(("penalty", "early"), [(0.9, False), (0.9, True), (0.0, False)])
def test_search_is_the_slow_one(penalty, early) -> None:
    with torch.inference_mode():
        for seed, (beams, allowed) in enumerate(((1, None), (3, None), (4, [EOS, UNK, *range(20, 40)]))):
            model = perturbed(seed=seed, scale=0.15)
            model.decoder.output_bias[EOS] += 1.5  # ends at many lengths
            sources = texts(5, 11, 3, seed=seed)
            search = Search(beams, penalty, early_stopping=early, batch_size=2, max_length=9)
            found = generate(model, sources, "fr", search, None if allowed is None else torch.tensor(allowed))
            for source, target in zip(sources, found, strict=True):
                score, ids = slow_search(model, source, 2, search, allowed)[0]
                assert target.score == pytest.approx(score, abs=1e-4)
                assert target.ids == ids
                assert allowed is None or set(ids) <= set(allowed)


def test_search_with_ties_and_without_an_end() -> None:
    model = perturbed(scale=0.15)
    twin = model.decoder.token_embedding.weight.data
    twin[31], model.decoder.output_bias.data[31] = twin[30], model.decoder.output_bias.data[30]
    model.decoder.output_bias.data[30:32] += 3  # two tokens that nothing tells apart, and win
    source, search = texts(6)[0], Search(3, 0.9, max_length=6)
    with torch.inference_mode():
        score, ids = slow_search(model, source, 2, search, None)[0]
        target = generate(model, [source], "fr", search)[0]
        assert target.score == pytest.approx(score, abs=1e-4)
        assert [min(i, 30) if i == 31 else i for i in target.ids] == [30 if i == 31 else i for i in ids]
        # </s> never comes: the last step stores what there is, without its newest token.
        model.decoder.output_bias.data[EOS] = -1e4
        assert len(generate(model, [source], "fr", search)[0].ids) == 4


def test_search_refuses_what_it_cannot_do() -> None:
    model, source = perturbed(), texts(5)[0]
    for call, message in (
        (lambda: generate(model, [source], "xx", Search()), "languages are de, en, fr"),
        (lambda: generate(model, texts(19), "de", Search()), "source 0 has 19 tokens; expected 1 to 18"),
        (lambda: generate(model, [source], "de", Search(max_length=31)), "positions for 3 to 30"),
        (lambda: Search(0), "at least 1 beam"),
    ):
        with pytest.raises((InputError, ConfigError), match=message):
            call()


def test_freezing() -> None:
    model = perturbed()
    layers = {name for name, _ in model.named_parameters() if name.startswith("encoder.stack.layers")}
    cases = {
        "all": {name for name, _ in model.named_parameters()},
        "decoder": {name for name, _ in model.named_parameters() if name.startswith("decoder.")},
        "encoder": {name for name, _ in model.named_parameters() if name.startswith("encoder.")},
        "1,3": layers,
        "2,2": {name for name in layers if ".layers.1." in name},
    }
    for train_layers, expected in cases.items():
        model.freeze(train_layers)
        assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert not any("embedding" in name for name in layers)  # the embeddings' norm is frozen with them
    for wrong in ("0,2", "1,4", "2", "2,1", "x,y", ""):
        with pytest.raises(
            ConfigError, match="expected all, encoder, decoder, or encoder layers such as 1,3"
        ):
            model.freeze(wrong)
    # Training moves what is trained and nothing else.
    model.freeze("1,3")
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    sides = texts(5, 4)
    pairs_loss(model, pairs([(sides[0], sides[1])], 20, 12)).total.backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= layers
    assert any("attention_norm" in name for name in moved)


def test_rows_of_the_objectives() -> None:
    words = Vocabulary(EOS, EOS, MASK, np.arange(14, 60))
    a, b, c = texts(7, 5, 4)
    batch = cloze([(a, b), (c,)], 20, words, np.random.default_rng(0))
    assert batch.ids_BT.shape == (2, 16)
    assert batch.positions_BT[0].tolist() == [*range(9), *range(7)]
    assert batch.languages_BT[0].tolist() == [0] * 9 + [1] * 7
    assert batch.valid_BT.sum(1).tolist() == [16, 6]
    whole = np.concatenate([framed(a.ids, 20), framed(b.ids, 20)])
    hidden = batch.targets_BT[0] >= 0
    assert hidden.sum() == round(0.15 * 12)
    assert batch.targets_BT[0][hidden].tolist() == whole[hidden.numpy()].tolist()
    assert batch.ids_BT[0][~hidden].tolist() == whole[~hidden.numpy()].tolist()
    made = pairs([(a, b), (c, a)], 6, 12)
    assert made.source_BS.tolist() == [[EOS, *a.ids[:4], EOS], [EOS, *c.ids, EOS]]
    assert made.target_languages_BT[:, 0].tolist() == [1, 0]
    # A later target token changes no earlier prediction.
    model = perturbed()
    with torch.no_grad():
        memory = model.encode(made.source_BS, made.source_valid_BS, made.source_languages_BS)
        first = model.decode(made.target_BT, made.target_languages_BT, memory, made.source_valid_BS)
        changed_BT = made.target_BT.clone()
        changed_BT[:, 5] = 50
        second = model.decode(changed_BT, made.target_languages_BT, memory, made.source_valid_BS)
    assert torch.equal(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5:7], second[:, 5:7])


def test_noise_keeps_words_together(smoke) -> None:
    tokenizer = TextTokenizer.from_folder(smoke / "model")
    noise, ids = (
        Noise(tokenizer),
        np.array(tokenizer.encode("one two three four five six seven eight nine ten")),
    )
    of_word = noise.words(ids)
    assert of_word.max() == 9
    spelled = {tuple(ids[of_word == word]) for word in range(10)}
    dropped = blanked = total = 0
    for seed in range(300):
        noisy = noise(ids, np.random.default_rng(seed))
        total += 10
        left = noisy[noisy != MASK]
        blanked += len(ids) - len(left) - 0
        places = []
        while len(left):
            size = next(len(w) for w in sorted(spelled, key=len, reverse=True) if tuple(left[: len(w)]) == w)
            places.append(next(w for w in range(10) if tuple(ids[of_word == w]) == tuple(left[:size])))
            left = left[size:]
        dropped += 10 - len(places)
        assert all(abs(place - rank) < 3 + (10 - len(places)) for rank, place in enumerate(places))
    assert 0.15 < dropped / total < 0.23  # dropped or blanked: 1 - 0.9 * 0.9
    assert len(noise(ids[:1], np.random.default_rng(1))) == 1


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """The folder of a short run of all stages."""
    output = tmp_path_factory.mktemp("xnlg")
    run(RECIPES["xnlg-smoke"], TrainOptions(output, steps=3))
    return output


def test_stages_freeze_and_continue(smoke) -> None:
    model, tokenizer, vocabulary = checkpoint.load(smoke / "model")
    assert [tokenizer.special_id(name) for name in SPECIAL] == list(range(14))
    assert set(vocabulary) == {"de", "en"}
    assert len(vocabulary["de"]) < model.config.vocab_size
    report = json.loads((smoke / "report.json").read_text())
    assert report["stage"] == "finetune"
    pipeline = XnlgPipeline.from_pretrained(str(smoke / "model"))
    title = pipeline.title("A text of some words. " * 20, language="en")
    assert len(title.sections) > 1
    with pytest.raises(InputError, match="in which language"):
        pipeline.title("A text")
    with pytest.raises(InputError, match="has no language 'fr'"):
        pipeline.title("A text", language="fr")


def test_two_processes_are_equal_and_resume(smoke, tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from multiway_core.training import TrainOptions, run;"
        "from multiway_text.xnlg.recipe import RECIPES;"
        "run(RECIPES['xnlg-smoke'], TrainOptions(Path(sys.argv[1]), steps=3))"
    )
    # A run that was stopped behind the encoder's stage, and goes on in another process.
    run(dataclasses.replace(RECIPES["xnlg-smoke"], stages="encoder"), TrainOptions(tmp_path / "run", steps=3))
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, capture_output=True)
    first, second = (folder / "model" / "model.safetensors" for folder in (smoke, tmp_path / "run"))
    assert first.read_bytes() == second.read_bytes()


def released(folder: Path, params: object = None) -> Xnlg:
    """The layout of the released file, made from a perturbed model."""
    words = [*SPECIAL, "t@@", "h@@", "e", "th@@", "the", "d@@", "o@@", "g", "do@@", "dog"]
    config = dataclasses.replace(CONFIG, vocab_size=len(words), norm_eps=1e-12)
    model = perturbed(config)
    sides = {}
    for side in ("encoder", "decoder"):
        state = {f"{side}.{name}": tensor for name, tensor in getattr(model, side).state_dict().items()}
        named = {RULES.to_published(name).removeprefix(f"{side}."): tensor for name, tensor in state.items()}
        if side == "encoder":
            named.pop("pred_layer.proj.bias")  # built without an output layer
        else:
            named["pred_layer.proj.weight"] = named["embeddings.weight"]
        sides[side] = {f"module.{name}": tensor for name, tensor in named.items()}
    plain = {"n_heads": 3, "n_layers": 2, "lang2id": {"en": 1, "de": 0, "fr": 2}, "gelu_activation": True}
    content = {
        **sides,
        "enc_params": plain if params is None else params,
        "dec_params": plain,
        "dico_id2word": dict(enumerate(words)),
        "dico_word2id": {word: index for index, word in enumerate(words)},
        "dico_counts": dict.fromkeys(words, 1),
    }
    torch.save(content, folder / "best.pth")
    (folder / "codes_xnli_15").write_text("t h 9\nd o 8\nth e</w> 7\ndo g</w> 6\n")
    (folder / "fr.vocab").write_text("the\t12\ndo@@ 4\nelsewhere 3\n")
    return model


class Options:
    """What a checkpoint must not make us build."""


def test_the_released_layout(tmp_path) -> None:
    model = released(tmp_path)
    found, tokenizer, vocabulary = checkpoint.load(tmp_path)
    assert found.config.languages == ("de", "en", "fr")
    assert tokenizer.encode("the dog the") == [18, 23, 18]
    assert tokenizer.decode([18, 23]) == "the dog"
    assert vocabulary["fr"].tolist() == [EOS, UNK, 18, 22]
    sides = [Text(np.array([18, 23]), 1)]
    with torch.no_grad():
        assert torch.equal(found.decoder.logits(torch.ones(24)), model.decoder.logits(torch.ones(24)))
    assert generate(found, sides, "fr", SEARCH) == generate(model, sides, "fr", SEARCH)
    # Written by us and read again.
    checkpoint.save(Loaded(found, tokenizer, vocabulary), tmp_path / "ours", dtype=None)
    again = checkpoint.load(tmp_path / "ours")
    assert generate(again.model, sides, "fr", SEARCH) == generate(model, sides, "fr", SEARCH)
    assert again.vocabularies["fr"].tolist() == [EOS, UNK, 18, 22]
    assert again.tokenizer.encode("the dog") == [18, 23]
    (tmp_path / "fr.vocab").write_text("nothing\n")
    with pytest.raises(CheckpointError, match="none of its 1 pieces"):
        checkpoint.load(tmp_path)


def test_a_released_file_of_two_kinds_of_languages_is_refused(tmp_path) -> None:
    released(tmp_path)
    (path,) = tmp_path.glob("*.pth")
    content = torch.load(path, weights_only=True)
    content["dec_params"] = {**content["dec_params"], "lang2id": {"en": 0, "de": 1, "fr": 2}}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="encoder and decoder differ in lang2id"):
        checkpoint.load(tmp_path)


def test_held_out_rows_are_scored_in_parts(tmp_path, monkeypatch) -> None:
    """The score is the mean over all tokens, however the rows are divided."""
    found = []
    for rows in (16, 1000):
        monkeypatch.setattr("multiway_text.xnlg.recipe._SCORED_ROWS", rows)
        recipe = dataclasses.replace(RECIPES["xnlg-smoke"], stages="finetune")
        job = next(recipe.build(TrainOptions(tmp_path / str(rows))))
        with torch.no_grad():
            found.append(job.held_out.score(job.model.eval()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_pickle_is_not_run(tmp_path) -> None:
    released(tmp_path, params=Options())
    with pytest.raises(CheckpointError, match="refused") as caught:
        checkpoint.load(tmp_path)
    assert "weights_only=False" in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "best.pth").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint"):
        checkpoint.load(tmp_path)
    (tmp_path / "best.pth").unlink()
    with pytest.raises(CheckpointError, match=r"one \*.pth with fastBPE codes"):
        checkpoint.load(tmp_path)


def test_fastbpe_is_subword_nmts(tmp_path) -> None:
    apply_bpe = pytest.importorskip("subword_nmt.apply_bpe")
    from multiway_core.tokenization.folder import fast_bpe
    from multiway_text.s2s_ft.recipe import help_topics

    words = Counter(word for pair in help_topics() for word in str(pair.source).split())
    lines = [" ".join(str(pair.source).split()) for pair in help_topics()][:1000]
    assert len(lines) > 900
    merges = _learn(words, 400)
    (tmp_path / "codes").write_text("".join(f"{a} {b} 1\n" for a, b in merges), encoding="utf-8")
    # The same merges as subword-nmt writes them: no counts, and the version with the end of a word in its last piece.
    (tmp_path / "theirs").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    with (tmp_path / "theirs").open(encoding="utf-8") as codes:
        theirs = apply_bpe.BPE(codes)
    expected = [theirs.process_line(line).split() for line in lines]
    pieces = sorted({piece for line in expected for piece in line})
    as_ours = [p[:-2] if p.endswith("@@") else f"{p}</w>" for p in pieces]
    vocab = {name: index for index, name in enumerate([*SPECIAL, *as_ours])}
    ours = fast_bpe(vocab, tmp_path / "codes")
    ids = {piece: vocab[mine] for piece, mine in zip(pieces, as_ours, strict=True)}
    for line, cut in zip(lines, expected, strict=True):
        assert ours.encode(line) == [ids[piece] for piece in cut]


def _learn(words: Counter[str], count: int) -> list[tuple[str, str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=count, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator([" ".join(words.elements())], trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def test_rows_that_cannot_be_read(tmp_path) -> None:
    good = {"text": "Ein Text", "language": "de", "id": 7}
    other = {"text": "A text", "language": "en", "id": 7}
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, [good, other, {"src": "a", "tgt": "b", "language": "en"}])))
    corpus = Corpus.read([str(path)], ("de", "en"))
    assert corpus.translations == [(0, 1), (1, 0)]
    assert corpus.titles == [("en", "a", "b")]
    for row, message in (
        ({"text": "x"}, r"texts.jsonl:2: no field 'language'"),
        ({"text": "x", "language": "xx"}, r"texts.jsonl:2: language 'xx': the model's languages are de, en"),
        ({"text": " ", "language": "de"}, r"texts.jsonl:2: text is empty"),
        ({"src": "x", "language": "de"}, r"texts.jsonl:2: no field 'tgt'"),
    ):
        path.write_text(json.dumps(good) + "\n" + json.dumps(row))
        with pytest.raises(DataError, match=message):
            Corpus.read([str(path)], ("de", "en"))
    path.write_text(json.dumps(good))
    for stages, message in (
        ("finetune", 'rows with "src"'),
        ("encoder", "an id that those in other languages share"),
        ("x", "unknown stage 'x'"),
    ):
        recipe = dataclasses.replace(RECIPES["xnlg-smoke"], stages=stages)
        with pytest.raises((InputError, ConfigError), match=message):
            run(recipe, TrainOptions(tmp_path / f"run-{stages}", data=(str(path),)))


def test_vocabularies_are_what_stands_in_a_language(smoke) -> None:
    tokenizer = TextTokenizer.from_folder(smoke / "model")
    found = vocabularies(Corpus(texts=[("de", "abc"), ("en", "xyz")]), tokenizer)
    assert set(found["de"].tolist()) == {EOS, UNK, *tokenizer.encode("abc")}
    assert isinstance(generate(perturbed(), texts(4), "de", Search(), torch.tensor([EOS, 20]))[0], Target)
