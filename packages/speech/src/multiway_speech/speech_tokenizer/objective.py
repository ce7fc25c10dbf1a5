"""Losses of the small tokenizer: multi-resolution spectral distances, and the sigma-VAE's penalty.

Source: the reconstruction losses of DAC (arXiv 2306.06546, section 3.4), which VibeVoice follows (section 2.1); the
sigma-VAE's noise and penalty are LatentLM's (arXiv 2412.08635, section 2.2). No adversary.

Shape suffixes: B batch, T samples, F frames, D latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from multiway_blocks.vae import mean_penalty
from multiway_core.training import Loss
from torch import Tensor, nn

from multiway_speech.mel import mean_filters
from multiway_speech.speech_tokenizer.config import SpectrumConfig
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.spectral import SpectralDecoder, hann


@dataclass(frozen=True)
class CodecObjective:
    """Loss of a batch of waveforms (B, 1, T), as the trainer asks for it; for tokenizers that work on a spectrum."""

    fft_sizes: tuple[int, ...] = (512, 1024)
    mel_sizes: tuple[int, ...] = (1024,)
    num_mels: int = 80
    mel_weight: float = 2.0
    magnitude_weight: float = 1.0
    column_weight: float = 1.0
    mean_weight: float = 1e-2
    floor: float = 1e-2
    sampled: bool = True
    """Whether the decoder hears latents with noise; without, this is the plain autoencoder that it is compared to."""

    def __call__(self, model: nn.Module, waveform_B1T: Tensor) -> Loss:
        assert isinstance(model, AcousticTokenizer)
        mean_BFD = model.encode(waveform_B1T)
        latents_BFD = model.sample(mean_BFD.float()) if self.sampled else mean_BFD
        decoder, spectrum = model.decoder, model.config.spectrum
        assert isinstance(decoder, SpectralDecoder)
        assert spectrum is not None
        log_magnitude_BNK, phase_BNK = decoder.columns(latents_BFD)
        with torch.autocast(waveform_B1T.device.type, enabled=False):
            heard_BT = decoder.sound(log_magnitude_BNK, phase_BNK)[:, 0]
            # The first windows of a stream are not yet overlapped by those before them.
            skipped = spectrum.overlap
            parts = self.distances(heard_BT[:, skipped:], waveform_B1T[:, 0, skipped : heard_BT.shape[1]])
            parts["column"] = self.column_distance(log_magnitude_BNK, waveform_B1T[:, 0], spectrum)
            penalty = mean_penalty(mean_BFD.float())
        total = self.mel_weight * parts["mel"] + self.magnitude_weight * parts["magnitude"]
        total = total + self.column_weight * parts["column"] + self.mean_weight * penalty
        metrics = {name: value.detach() for name, value in parts.items()}
        metrics["latent_std"] = mean_BFD.detach().float().std()
        return Loss(total * len(waveform_B1T), len(waveform_B1T), metrics, samples=len(waveform_B1T))

    def distances(self, heard_BT: Tensor, target_BT: Tensor) -> dict[str, Tensor]:
        """Mean distance of log-mel columns, and of magnitudes (logarithmic and relative), over the resolutions."""
        mel = magnitude = torch.zeros((), device=heard_BT.device)
        for size in sorted({*self.fft_sizes, *self.mel_sizes}):
            with torch.no_grad():
                target_BKN = magnitudes(target_BT, size)
            heard_BKN = magnitudes(heard_BT, size)
            floor = self.floor * size / 1024
            if size in self.fft_sizes:
                log = (heard_BKN + floor).log() - (target_BKN + floor).log()
                relative = (heard_BKN - target_BKN).norm() / target_BKN.norm().clamp_min(1e-3)
                magnitude = magnitude + (log.abs().mean() + relative) / len(self.fft_sizes)
            if size in self.mel_sizes:
                filters_MK = mean_filters(size, self.num_mels, 16_000, heard_BT.device).t()
                log = (filters_MK @ heard_BKN + floor).log() - (filters_MK @ target_BKN + floor).log()
                mel = mel + log.abs().mean() / len(self.mel_sizes)
        return {"mel": mel, "magnitude": magnitude}

    def column_distance(
        self, log_magnitude_BNK: Tensor, target_BT: Tensor, spectrum: SpectrumConfig
    ) -> Tensor:
        """Mean distance of the magnitudes that the decoder predicts to those of the very windows that it fills.

        What leaves the inverse transform differs from it as far as neighbouring windows contradict each other; the
        direct way teaches envelopes and harmonics much sooner.
        """
        windows_BNT = target_BT.unfold(-1, spectrum.fft_size, spectrum.hop)
        target_BNK = torch.view_as_real(
            torch.fft.rfft(windows_BNT * hann(spectrum.fft_size, target_BT.device))
        )
        target_BNK = target_BNK.square().sum(-1).clamp_min(1e-8).sqrt()
        floor = self.floor * spectrum.fft_size / 1024
        predicted_BNK = log_magnitude_BNK[:, : target_BNK.shape[1]].exp()
        return ((predicted_BNK + floor).log() - (target_BNK + floor).log()).abs().mean()


def magnitudes(waveform_BT: Tensor, size: int) -> Tensor:
    """(B, K, N) of windows of ``size`` samples, a quarter of it apart."""
    window = hann(size, waveform_BT.device)
    spectrum = torch.stft(waveform_BT, size, size // 4, window=window, center=False, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).clamp_min(1e-8).sqrt()
