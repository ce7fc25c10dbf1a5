"""The bundled multilingual model: translations are nearest, its prompts and languages are told, 8 bits are near."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core import hub
from multiway_text.encoder.pipeline import EncoderPipeline

SENTENCES = {
    "en": ["The train to the coast leaves at nine.", "She is allergic to peanuts.", "The bridge was built in 1932."],
    "de": ["Der Zug zur Küste fährt um neun ab.", "Sie ist allergisch gegen Erdnüsse.", "Die Brücke entstand 1932."],
    "es": ["El tren a la costa sale a las nueve.", "Es alérgica al cacahuete.", "El puente se construyó en 1932."],
    "fr": ["Le train pour la côte part à neuf heures.", "Elle est allergique aux arachides.", "Le pont date de 1932."],
    "it": ["Il treno per la costa parte alle nove.", "È allergica alle arachidi.", "Il ponte fu costruito nel 1932."],
    "nl": ["De trein naar de kust vertrekt om negen uur.", "Ze is allergisch voor pinda's.", "De brug is uit 1932."],
    "pl": ["Pociąg na wybrzeże odjeżdża o dziewiątej.", "Ma alergię na orzeszki.", "Most zbudowano w 1932 roku."],
    "pt": ["O trem para a costa parte às nove.", "Ela é alérgica a amendoim.", "A ponte foi construída em 1932."],
    "ru": ["Поезд на побережье уходит в девять.", "У неё аллергия на арахис.", "Мост построили в 1932 году."],
    "tr": ["Sahile giden tren dokuzda kalkıyor.", "Fıstığa alerjisi var.", "Köprü 1932 yılında yapıldı."],
    "ja": ["海岸行きの電車は九時に出ます。", "彼女はピーナッツアレルギーです。", "その橋は1932年に建てられた。"],
    "zh": ["去海边的火车九点出发。", "她对花生过敏。", "这座桥建于1932年。"],
}  # fmt: skip


@pytest.fixture(scope="module")
def bundled() -> EncoderPipeline:
    return EncoderPipeline.from_pretrained("bundled:multilingual-small")


def test_translations_are_nearest(bundled: EncoderPipeline) -> None:
    english_NE = bundled.embed(SENTENCES["en"]).vectors
    for texts in SENTENCES.values():
        assert (bundled.embed(texts).vectors @ english_NE.T).argmax(1).tolist() == [0, 1, 2]


def test_languages_and_prompts_are_told(bundled: EncoderPipeline) -> None:
    settings = bundled.sentence.settings
    assert list(settings.languages) == sorted(SENTENCES)
    assert settings.prompts == {"query": "query: ", "passage": "passage: "}
    text = SENTENCES["en"][0]
    bare = bundled.vectors(bundled.encode([f"query: {text}"])).numpy()
    assert np.array_equal(bundled.embed([text]).vectors, bare)
    assert not np.allclose(bundled.embed([text], prompt="passage").vectors, bare, atol=0.01)


def test_other_scripts_are_unreadable(bundled: EncoderPipeline) -> None:
    assert max(bundled.unreadable(text) for texts in SENTENCES.values() for text in texts) < 0.1
    for text in (
        "القطار إلى الساحل يغادر في التاسعة",
        "समुद्र तट की रेलगाड़ी नौ बजे जाती है",
        "รถไฟไปชายฝั่งออกเก้าโมง",
    ):
        assert bundled.unreadable(text) > 0.5


def test_8_bit_activations_are_near_float32(bundled: EncoderPipeline) -> None:
    texts = [texts[1] for texts in SENTENCES.values()]
    exact = EncoderPipeline.from_pretrained("bundled:multilingual-small", dtype=torch.float32)
    assert (exact.embed(texts).vectors * bundled.embed(texts).vectors).sum(1).min() > 0.99


def test_files(bundled: EncoderPipeline) -> None:
    folder = Path(hub.resolve("bundled:multilingual-small"))
    weights = sorted(folder.glob("*.safetensors"))
    assert len(weights) == 3
    assert all(path.stat().st_size <= 16_000_000 for path in folder.iterdir())
    names = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert "embeddings.word_embeddings.weight.part0" in names
