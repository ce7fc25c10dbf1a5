"""What the home page shows of each app beside its own declaration, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One app's card.

    Attributes:
        picture: text for those who cannot see the picture.
        sound: label of the sound, where there is one.
        steps: CSS selectors of what "Try it" presses in the demo, one after another, when each can be pressed; with
            "? " before it, of what is only waited for.
        result: CSS selector of the part of the demo that shows the result.
        done: CSS selector of what is there when the result is whole.
    """

    picture: str = ""
    sound: str = ""
    steps: tuple[str, ...] = ()
    result: str = ""
    done: str = ""


CARDS = {
    "ocr": Card(
        picture="A scanned page with a box around each line that was read, and its text beside it",
        steps=("#ocr-examples .gallery-item:nth-child(3) button", "? #ocr-file .file-preview", "#ocr-read"),
        result="#ocr-view",
        done="#ocr-get-text:not([disabled])",
    ),
    "asr": Card(
        picture="A recording with a lane for each speaker over the waveform, and the words below",
        steps=("#asr-example-dialogue", "? #asr-view .sheet", "#asr-transcribe"),
        result="#asr-view",
        done="#asr-get-txt:not([disabled])",
    ),
    "tts": Card(
        picture="A script of two speakers and the waveform of the speech made from it",
        sound="Speech that the bundled model made from the script in the picture",
        steps=("#tts-speak",),
        result="#tts-player",
        done="#tts-get-wav:not([disabled])",
    ),
    "grounding": Card(
        picture="A picture with a box around each phrase that was found, and phrases that are not in it",
        steps=("#ground-examples .gallery-item button", "? #ground-file .file-preview", "#ground-run"),
        result="#ground-view",
        done="#ground-downloads button:not([disabled])",
    ),
    "lm": Card(
        picture="A sentence scored by the language model: the tokens that surprised it are red",
        steps=("#lm-tab-score-button", "#lm-judge"),
        result="#lm-text-tokens",
        done="#lm-text-tokens .token",
    ),
    "encoder": Card(
        picture="A map of sentences by meaning, with lines from a search to the sentences nearest to it",
        steps=("#encoder-find",),
        result="#encoder-map .map",
        done="#encoder-map .map circle.near",
    ),
    "corpus": Card(
        picture="A web page with the verdict of each rule, and its kept and dropped sentences side by side",
        steps=("#corpus-run",),
        result="#corpus-view",
        done="#corpus-view .inspection",
    ),
    "news-recommendation": Card(
        picture="A reader's list of news with the reason for each and the chain of clicks that led to it",
        steps=("#news-run",),
        result="#news-view .picture",
        done="#news-view .why",
    ),
    "search": Card(
        picture="A map of notes around a question, with lines to the notes that answer it",
        steps=("#search-find",),
        result="#search-results .map",
        done="#search-results .hit",
    ),
    "question-answering": Card(
        picture="A question and a text in which the words that answer it are marked",
        steps=("#qa-ask",),
        result="#qa-view",
        done="#qa-view mark.best",
    ),
    "summarization": Card(
        picture="A text about a bridge below the title that the model wrote for it",
        steps=("#summarization-run",),
        result="#summarization-view",
        done="#summarization-view .written",
    ),
    "pathology": Card(
        picture="A slide in a viewer with the regions that decided in red and blue, and the class above it",
        result="#stage",
        done="body[data-waiting='0']",
    ),
    "frame-interpolation": Card(
        picture="A frame made between two frames of a video, beside what other methods make of it",
        steps=("#fi-make",),
        result="#fi-slider",
        done="#fi-summary table",
    ),
    "event-detection": Card(
        picture="Events of an event camera as red and blue points, with boxes around the objects found in them",
        steps=("#events-examples .gallery-item button",),
        result="#events-view .pane",
        done="#events-view canvas",
    ),
}
