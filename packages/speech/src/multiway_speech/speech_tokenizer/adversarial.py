"""Adversarial training of the small tokenizer's decoder, its last stage.

Distances of spectra leave a rough sound: they are content with phases that contradict each other. So the decoder is
trained on against discriminators of complex spectra at several resolutions (DAC, arXiv 2306.06546, section 3.3; hinge
losses as in Vocos, arXiv 2306.00814, section 3.3). The encoder stays as it is: models of its latents remain valid.

Shape suffixes: B batch, T samples, N columns, K frequencies, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from multiway_core.training import Loss
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.objective import CodecObjective
from multiway_speech.speech_tokenizer.spectral import SpectralDecoder, hann


class SpectrumDiscriminator(nn.Module):
    """Whether a complex spectrum is that of a recording, column by column and band by band."""

    def __init__(self, fft_size: int, channels: int = 32, layers: int = 4) -> None:
        super().__init__()
        self.fft_size = fft_size
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, channels, (3, 9), stride=(1, 2), padding=(1, 4)))
            for before in [2] + [channels] * (layers - 1)
        )
        self.output = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=1))

    def forward(self, waveform_BT: Tensor) -> list[Tensor]:
        """What each layer sees (B, C, N, K'), its verdict (B, 1, N, K') last: positive for recordings."""
        spectrum_BKN = torch.stft(
            waveform_BT,
            self.fft_size,
            self.fft_size // 4,
            window=hann(self.fft_size, waveform_BT.device),
            center=False,
            return_complex=True,
        )
        x_BCNK = torch.view_as_real(spectrum_BKN).permute(0, 3, 2, 1)
        # Quiet parts matter as much as loud ones to the ear: the square root of the magnitude, phases kept.
        x_BCNK = x_BCNK * (x_BCNK.square().sum(1, keepdim=True) + 1e-6).pow(-0.25)
        seen = []
        for layer in self.layers:
            x_BCNK = nn.functional.leaky_relu(layer(x_BCNK), 0.1)
            seen.append(x_BCNK)
        return [*seen, self.output(x_BCNK)]


class TokenizerWithDiscriminators(nn.Module):
    """The tokenizer and its discriminators, which are left behind when training ends."""

    def __init__(self, tokenizer: AcousticTokenizer, fft_sizes: Sequence[int] = (256, 512, 1024)) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.discriminators = nn.ModuleList(SpectrumDiscriminator(size) for size in fft_sizes)
        tokenizer.encoder.requires_grad_(False)


@dataclass(frozen=True)
class AdversarialObjective:
    """Loss of a batch of waveforms (B, 1, T): both sides of the contest in one step.

    Attributes:
        distances: the objective of the stages before.
        distance_weight: of all of those together, against the adversaries' weight of 1.
        feature_weight: of the distance between what the discriminators' layers see.
    """

    distances: CodecObjective = field(default_factory=CodecObjective)
    distance_weight: float = 5.0
    feature_weight: float = 2.0

    def __call__(self, model: nn.Module, waveform_B1T: Tensor) -> Loss:
        assert isinstance(model, TokenizerWithDiscriminators)
        tokenizer = model.tokenizer
        decoder, spectrum = tokenizer.decoder, tokenizer.config.spectrum
        assert isinstance(decoder, SpectralDecoder)
        assert spectrum is not None
        with torch.no_grad():
            latents_BFD = tokenizer.sample(tokenizer.encode(waveform_B1T).float())
        log_magnitude_BNK, phase_BNK = decoder.columns(latents_BFD)
        with torch.autocast(waveform_B1T.device.type, enabled=False):
            heard_BT = decoder.sound(log_magnitude_BNK, phase_BNK)[:, 0, spectrum.overlap :]
            target_BT = waveform_B1T[:, 0, spectrum.overlap :][:, : heard_BT.shape[1]]
            parts = self.distances.distances(heard_BT, target_BT)
            parts["column"] = self.distances.column_distance(log_magnitude_BNK, waveform_B1T[:, 0], spectrum)
        distance = (
            self.distances.mel_weight * parts["mel"]
            + self.distances.magnitude_weight * parts["magnitude"]
            + self.distances.column_weight * parts["column"]
        )
        parts |= adversarial_losses(model.discriminators, heard_BT, target_BT)
        total = (
            self.distance_weight * distance
            + parts["generator"]
            + self.feature_weight * parts["feature_matching"]
            + parts["discriminator"]
        )
        metrics = {name: value.detach() for name, value in parts.items()}
        return Loss(total * len(waveform_B1T), len(waveform_B1T), metrics, samples=len(waveform_B1T))


def adversarial_losses(
    discriminators: nn.ModuleList, heard_BT: Tensor, target_BT: Tensor
) -> dict[str, Tensor]:
    """The three losses of a contest, means over the discriminators.

    ``discriminator_loss`` trains the discriminators alone, ``generator_loss`` and ``feature`` only what made ``heard``.
    """
    discriminator_loss = generator_loss = feature = heard_BT.new_zeros(())
    both_BT = torch.cat([target_BT, heard_BT.detach()])
    for discriminator in discriminators:
        of_recording, of_copy = discriminator(both_BT)[-1].float().chunk(2)
        discriminator_loss = discriminator_loss + (
            (1 - of_recording).relu().mean() + (1 + of_copy).relu().mean()
        )
        # The same network once more, its weights held still, so that one backward pass serves both sides.
        still = {name: weight.detach() for name, weight in discriminator.named_parameters()}
        with torch.no_grad():
            wanted = discriminator(target_BT)[:-1]
        *seen, verdict = functional_call(discriminator, still, (heard_BT,))
        generator_loss = generator_loss + (1 - verdict.float()).relu().mean()
        for copy, recording in zip(seen, wanted, strict=True):
            feature = feature + (copy.float() - recording.float()).abs().mean() / len(wanted)
    count = len(discriminators)
    return {
        "discriminator": discriminator_loss / count,
        "generator": generator_loss / count,
        "feature_matching": feature / count,
    }
