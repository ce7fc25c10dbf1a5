"""Layout of the demo's page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiway_core.app import download_buttons, viewer

from multiway_tts.app import APP
from multiway_tts.demo.examples import EXAMPLES
from multiway_tts.demo.session import FILES, LONGEST, OWN, Session
from multiway_tts.demo.view import editor_value, empty_value

SPEAKERS = 4
LABELS = {"wav": "Sound (wav)", "srt": "Subtitles (srt)", "vtt": "Subtitles (vtt)", "json": "Manifest (json)"}


@dataclass(frozen=True)
class Components:
    """The parts of the page that events read or change (Gradio's own types, which are loaded late)."""

    editor: Any
    examples: dict[str, Any]
    voices: list[Any]
    speak: Any
    stop: Any
    player: Any
    downloads: list[Any]
    own: Any
    consent: Any
    disclaimer: Any
    seed: Any
    guidance: Any
    steps: Any
    speed: Any

    @property
    def settings(self) -> list[Any]:
        """The inputs of a :class:`Choice`, in its order."""
        options = [self.seed, self.guidance, self.steps, self.speed]
        return [*self.voices, self.own, self.consent, self.disclaimer, *options]


def components(session: Session) -> Components:
    """Put the components on the page that is being built."""
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            editor = viewer(
                APP, editor_value(EXAMPLES["Two speakers"], session.voices), "tts-editor", name="editor"
            )
            with gr.Row():
                examples = {
                    name: gr.Button(name, size="sm", min_width=110, elem_classes="tts-example")
                    for name in EXAMPLES
                }
            offered = session.choices()
            with gr.Row():
                voices = [
                    gr.Dropdown(
                        offered,
                        value=offered[index % max(1, len(session.voices) or 1)],
                        label=f"Speaker {index + 1}",
                        min_width=130,
                        elem_id=f"tts-voice-{index + 1}",
                    )
                    for index in range(SPEAKERS)
                ]
            with gr.Row():
                speak = gr.Button("Speak", variant="primary", elem_id="tts-speak")
                stop = gr.Button("Stop", scale=0, min_width=90, elem_id="tts-stop")
            player = viewer(APP, empty_value(), "tts-player", name="player")
            with gr.Row():
                downloads = download_buttons({kind: LABELS[kind] for kind in FILES}, "tts", min_width=120)
        with gr.Column(scale=0, min_width=300):
            disclaimer = gr.Radio(
                [("before", "prefix"), ("after", "suffix"), ("none", "none")],
                value="prefix",
                label="Spoken disclaimer",
                elem_id="tts-disclaimer",
            )
            speed = gr.Slider(0.5, 2, value=1, step=0.05, label="Speed", elem_id="tts-speed")
            with gr.Accordion("A voice of your own", open=False, visible=OWN in offered, elem_id="tts-own"):
                own = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="1 to 60 seconds of one person",
                    elem_id="tts-own-audio",
                )
                consent = gr.Checkbox(
                    False,
                    label="The person in this recording agreed to voice cloning.",
                    elem_id="tts-consent",
                )
                gr.Markdown(
                    "Then choose *my recording* as a speaker's voice. It stays on this machine for an hour."
                )
            with gr.Accordion("Synthesis options", open=False):
                seed = gr.Number(value=0, precision=0, label="Seed", info="the same seed, the same sound")
                guidance = gr.Slider(
                    1, 4, value=session.defaults.guidance, step=0.1, label="Guidance", info="1: none"
                )
                steps = gr.Slider(
                    1, 30, value=session.defaults.diffusion_steps, step=1, label="Diffusion steps per frame"
                )
            gr.Markdown(
                "A line `Speaker 1: words` begins a turn"
                + (f", and so does a voice's name: `{session.voices[0]}: words`" if session.voices else "")
                + f". `[pause:500ms]` is silence. At most {LONGEST:,} characters; the command"
                " `multiway-tts speak` takes hours. Times with ≈ are estimated from the pauses."
            )
    return Components(
        editor,
        examples,
        voices,
        speak,
        stop,
        player,
        downloads,
        own,
        consent,
        disclaimer,
        seed,
        guidance,
        steps,
        speed,
    )
