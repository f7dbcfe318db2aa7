"""Measure whether the entities of a sentence depend on the sentences that it is joined to.

    python -m benchmarks.joined [--source FOLDER] [--sentences 100]

Tags the validation sentences one by one, and joined into texts of 100. Prints the F1 between the two sets of entities,
for sentences joined by line breaks and by spaces.
"""

import click

from koner import Tagger
from koner.corpus.parts import VALIDATION
from koner.corpus.sources import read_checked, read_source
from koner.errors import exit_on_error
from koner.params import SAMPLE

SEPARATORS = {"a line each": "\n", "a space between": " "}

Spans = set[tuple[int, int, str]]


def find_spans(tagger: Tagger, texts: list[str]) -> list[Spans]:
    """Return the start, end and type of the entities of each text."""
    return [{(e.start, e.end, e.label) for e in tagged.entities} for tagged in tagger.tag_all(texts)]


def find_spans_alone(tagger: Tagger, texts: list[str], separator: str) -> Spans:
    """Tag texts one by one, and return their entities with the offsets that they have in the joined text."""
    spans: Spans = set()
    offset = 0
    for text, text_spans in zip(texts, find_spans(tagger, texts), strict=True):
        spans |= {(offset + start, offset + end, label) for start, end, label in text_spans}
        offset += len(text) + len(separator)
    return spans


@click.command(help=__doc__.replace("\n\n    python", "\n\n\b\n    python"))
@click.option("--model", default="models/ner", show_default=True, help="Folder of the model.")
@click.option("--source", default=SAMPLE, show_default=True, help="As the parameter `source`.")
@click.option(
    "--sentences", default=100, show_default=True, type=click.IntRange(2), help="Sentences joined into one text."
)
def main(model: str, source: str, sentences: int) -> None:
    with exit_on_error():
        tagger = Tagger.load(model)
        texts = [s.text.strip() for s in read_checked(read_source(source, "ner", None))[VALIDATION]]
    groups = [texts[i : i + sentences] for i in range(0, len(texts) - sentences + 1, sentences)]
    for name, separator in SEPARATORS.items():
        matches = total = 0
        for group in groups:
            alone = find_spans_alone(tagger, group, separator)
            (joined,) = find_spans(tagger, [separator.join(group)])
            matches += 2 * len(alone & joined)
            total += len(alone) + len(joined)
        click.echo(f"{len(groups)} texts of {sentences} sentences, {name}: {matches / total:.4f} agree (F1)")


if __name__ == "__main__":
    main()
