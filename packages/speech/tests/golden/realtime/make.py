"""Makes the golden files of VibeVoice-Realtime beside it with its makers' own code; nothing of ours is imported.

    git clone https://github.com/microsoft/VibeVoice   # e73d1e1, MIT licence
    python -m venv peer && peer/bin/pip install torch numpy "transformers==4.51.3" "diffusers<0.36" "accelerate==1.6.0"
    PYTHONPATH=VibeVoice peer/bin/python packages/speech/tests/golden/realtime/make.py

* ``config.json``, ``model.safetensors``: a tiny model with random weights as their ``save_pretrained`` writes it, in
  bfloat16 as the published one;
* ``voice.pt``: a voice as they publish them, a pickle of four outputs of ``transformers`` with caches, bfloat16;
* ``expected.safetensors``: what their ``generate`` computed from both in float32. ``words`` (T,) int64 were spoken;
  ``noise``, ``latents`` (F, D), ``positive``, ``negative`` (F, E) are of each frame's diffusion: its first noise, its
  result, and both conditions; ``read`` (T, E) are the upper part's states at the words, ``end`` (F,) the classifier's
  logits, ``audio`` (F' * hop,) the sound. The speech ends at the first logit above 0, in the middle of a window of six
  frames, so that F' < F: their loop completes the window and keeps the sound up to the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast
from vibevoice.modular.configuration_vibevoice_streaming import VibeVoiceStreamingConfig
from vibevoice.modular.modeling_vibevoice_streaming_inference import (
    VibeVoiceStreamingForConditionalGenerationInference,
)

HERE = Path(__file__).parent
WORDS = torch.tensor([[3, 4, 5, 6, 7, 8, 9, 11, 12, 3, 20, 21]])  # two windows of five and one of two
PROMPT, PAD = torch.tensor([[7, 8, 9, 10]]), 49
STEPS, GUIDANCE, SEED = 4, 1.5, 3


class Tokens:
    """What ``generate`` asks a tokenizer for."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, PAD
    speech_start_id, speech_end_id, speech_diffusion_id = 45, 46, 47

    def convert_tokens_to_ids(self, token: str) -> int:
        return PAD


def make_model() -> VibeVoiceStreamingForConditionalGenerationInference:
    config = VibeVoiceStreamingConfig(
        acoustic_tokenizer_config={
            "vae_dim": 6, "encoder_n_filters": 3, "decoder_n_filters": 3, "encoder_ratios": [5, 2],
            "encoder_depths": "1-2-1", "layer_scale_init_value": 0.3,
        },
        decoder_config={
            "model_type": "qwen2", "hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 24, "vocab_size": 50, "max_position_embeddings": 64,
            "rope_theta": 1000000.0, "tie_word_embeddings": True,
        },
        diffusion_head_config={
            "hidden_size": 16, "head_layers": 2, "head_ffn_ratio": 1.5, "latent_size": 6, "speech_vae_dim": 6,
            "ddpm_num_inference_steps": STEPS,
        },
        tts_backbone_num_hidden_layers=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = VibeVoiceStreamingForConditionalGenerationInference(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        model.model.speech_scaling_factor.fill_(0.2333984375)
        model.model.speech_bias_factor.fill_(-0.0703125)
    return model.to(torch.bfloat16).float()


def remembered(model: Any, tokens: torch.Tensor, latents: torch.Tensor | None) -> tuple[Any, Any]:
    """Outputs of both parts behind a prompt of text, and of speech if there are ``latents``."""
    kwargs = {"return_dict": True, "use_cache": True}
    lower = model.forward_lm(input_ids=tokens, past_key_values=DynamicCache(), **kwargs)
    upper = model.forward_tts_lm(
        input_ids=tokens,
        lm_last_hidden_state=lower.last_hidden_state,
        tts_text_masks=torch.ones_like(tokens[:, -1:]),
        past_key_values=DynamicCache(),
        **kwargs,
    )
    if latents is not None:
        heard = model.model.acoustic_connector(latents)
        upper = model.forward_tts_lm(
            input_ids=tokens.new_ones(1, latents.shape[1]),
            lm_last_hidden_state=heard,
            tts_text_masks=torch.zeros_like(tokens[:, -1:]),
            past_key_values=upper.past_key_values,
            **kwargs,
        )
    return lower, upper


def voice_of(model: Any, dtype: torch.dtype) -> dict[str, BaseModelOutputWithPast]:
    """A voice file's content, rounded to bfloat16 and then of ``dtype``."""

    def rounded(output: Any) -> BaseModelOutputWithPast:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(output.past_key_values):
            cache.update(keys.bfloat16().to(dtype), values.bfloat16().to(dtype), layer)
        return BaseModelOutputWithPast(output.last_hidden_state.bfloat16().to(dtype), cache)

    latents = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(9))
    lower, upper = remembered(model, PROMPT, latents)
    no_text, no_voice = remembered(model, torch.tensor([[PAD]]), None)
    parts = {"lm": lower, "tts_lm": upper, "neg_lm": no_text, "neg_tts_lm": no_voice}
    return {name: rounded(output) for name, output in parts.items()}


def speak(model: Any) -> dict[str, torch.Tensor]:
    """One run of their ``generate``, and what went through it."""
    seen: dict[str, list[torch.Tensor]] = {
        name: [] for name in ("noise", "latents", "positive", "negative", "read", "end")
    }
    voice = voice_of(model, torch.float32)
    sample, upper = model.sample_speech_tokens, model.forward_tts_lm
    is_positive = True

    def sampled(condition: torch.Tensor, neg_condition: torch.Tensor, cfg_scale: float) -> torch.Tensor:
        state = torch.get_rng_state()
        seen["noise"].append(torch.randn(2, 6)[0])
        torch.set_rng_state(state)
        found = sample(condition, neg_condition, cfg_scale=cfg_scale)
        for name, value in (("positive", condition), ("negative", neg_condition), ("latents", found)):
            seen[name].append(value[0])
        return found

    def forwarded(**kwargs: Any) -> Any:
        nonlocal is_positive
        output = upper(**kwargs)
        if bool(kwargs["tts_text_masks"].all()):
            seen["read"].extend(output.last_hidden_state[0])
        else:  # a frame: first the context with the text, then the other one
            if is_positive:
                seen["end"].append(output.logits[0, 0])
            is_positive = not is_positive
        return output

    model.sample_speech_tokens, model.forward_tts_lm = sampled, forwarded
    torch.manual_seed(SEED)
    try:
        result = model.generate(
            input_ids=PROMPT,
            attention_mask=torch.ones_like(PROMPT),
            tts_lm_input_ids=torch.cat([PROMPT, torch.ones(1, 3, dtype=torch.int64)], dim=1),
            tts_lm_attention_mask=torch.ones(1, 7, dtype=torch.int64),
            tts_text_ids=WORDS,
            all_prefilled_outputs=voice,
            tokenizer=Tokens(),
            cfg_scale=GUIDANCE,
            max_new_tokens=50,
            show_progress_bar=False,
        )
    finally:
        model.sample_speech_tokens, model.forward_tts_lm = sample, upper
    tensors = {name: torch.stack(values) for name, values in seen.items()}
    return tensors | {"audio": result.speech_outputs[0].flatten(), "words": WORDS[0]}


@torch.no_grad()
def main() -> None:
    model = make_model()
    bias = model.tts_eos_classifier.fc2.bias
    bias.fill_(-100)
    ends = speak(model)["end"] + 100
    # So that the speech ends at the highest logit from frame 13 to 16, the middle of the third window.
    last = 12 + int(ends[12:16].argmax())
    others = torch.cat([ends[:last], ends[last + 1 : 16]])
    bias.fill_(-float((ends[last] + others.max()) / 2))
    bias.copy_(bias.bfloat16())
    expected = speak(model)
    ended = int((expected["end"] > 0).nonzero()[0])
    assert ended == last, (ended, last)
    assert len(expected["audio"]) == 10 * (ended + 1) < 10 * len(expected["latents"])
    assert float(expected["audio"].std()) > 0.01
    save_file({name: value.contiguous() for name, value in expected.items()}, HERE / "expected.safetensors")
    torch.save(voice_of(model, torch.bfloat16), HERE / "voice.pt")
    model.to(torch.bfloat16).save_pretrained(HERE)
    (HERE / "generation_config.json").unlink(missing_ok=True)
    print({name: tuple(value.shape) for name, value in expected.items()}, "ends at", ended)


if __name__ == "__main__":
    main()
