"""The ``draw`` command: pictures from a LatentLM, by next-token diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app.command import pick_device
from multiway_core.errors import InputError
from multiway_core.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PICTURES, TENSORS = (".png",), (".safetensors",)
_SHORTEST_SIDE = 32  # smaller pictures are enlarged by a whole factor, to be seen


def draw_pictures(
    model: str,
    output: Path,
    *,
    classes: Sequence[int],
    count: int,
    guidance: float,
    steps: int,
    sampler: str,
    seed: int,
    device: str,
) -> None:
    """Draw ``count`` pictures of each class and write them: a PNG with a row a class, or safetensors.

    Without ``classes`` every class that the model knows is drawn. A safetensors file has ``pixels`` (N, C, H, W) in
    [-1, 1], ``labels`` (N,) and ``latents`` (N, L, D), float32 and int64.

    Raises:
        InputError: another ending, a class that the model has not, bad options, a model that draws nothing.
        CheckpointError, ConfigError, ModelNotFoundError: the model.
        OutputError: the file cannot be written.
    """
    if output.suffix.lower() not in (*PICTURES, *TENSORS):
        raise InputError(f"--output {output}: expected a name that ends in .png or .safetensors")
    import safetensors.torch
    import torch
    from multiway_core import hub
    from multiway_text.decoders.latent_lm import checkpoint
    from multiway_text.decoders.latent_lm.generation import Generator, SamplingConfig
    from multiway_text.decoders.latent_lm.processor import LatentLMProcessor

    network, tokenizer = checkpoint.load(hub.resolve(model), device=pick_device(device))
    processor = LatentLMProcessor(network, tokenizer)
    labels = [label for label in classes or range(processor.num_text) for _ in range(count)]
    length = tokenizer.config.num_latents
    config = SamplingConfig(
        max_tokens=length,
        span_length=length,
        guidance=guidance,
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]  # checked there
        seed=seed,
    )
    prompts = [processor.write([label], open_span=True)[0] for label in labels]
    drawn = Generator(network, config).generate(prompts)
    pixels_NCHW = processor.pictures(drawn).float().cpu()
    if output.suffix.lower() in TENSORS:
        latents = torch.stack([one.latents_ND for one in drawn]).float().cpu()
        tensors = {"pixels": pixels_NCHW, "labels": torch.tensor(labels), "latents": latents}
        data = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
        with atomic_write(output) as file:
            file.write(data)
    else:
        _write_png(output, pixels_NCHW.numpy(), columns=count)


def _write_png(path: Path, pixels_NCHW: NDArray[np.float32], *, columns: int) -> None:
    """The pictures, -1 black to 1 white, side by side with a margin of one pixel."""
    import numpy as np
    from PIL import Image

    count, channels, height, width = pixels_NCHW.shape
    if channels not in (1, 3):
        raise InputError(f"pictures of {channels} channels: a PNG takes 1 or 3; write .safetensors")
    larger = max(1, -(-_SHORTEST_SIDE // min(height, width)))
    values = ((pixels_NCHW + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    values = values.repeat(larger, axis=2).repeat(larger, axis=3)
    height, width = height * larger, width * larger
    sheet = np.full((count // columns * (height + 1) - 1, columns * (width + 1) - 1, channels), 255, np.uint8)
    for number, picture in enumerate(values):
        row, column = divmod(number, columns)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    image = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
    with atomic_write(path) as file:
        image.save(file, "PNG")
