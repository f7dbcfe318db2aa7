"""Do entities hang on what a sentence is joined to? 100 sentences in one text, against the same sentences alone."""

import click

from koner import Tagger
from koner.errors import told_plainly
from koner.sources import VALIDATION, read_checked, read_source

GLUE = {"a line each": "\n", "a space between": " "}


def spans(tagger: Tagger, texts: list[str]) -> list[set[tuple[int, int, str]]]:
    return [{(e.start, e.end, e.label) for e in tagged.entities} for tagged in tagger.tag_all(texts)]


@click.command()
@click.option("--model", default="models/ner", show_default=True)
@click.option("--source", default="sample", show_default=True, help="As `source` in params.yaml.")
@click.option("--sentences", default=100, show_default=True, type=click.IntRange(2), help="Joined into one text.")
def main(model: str, source: str, sentences: int) -> None:
    """Print how far the entities of joined sentences agree with those of the sentences alone."""
    with told_plainly():
        tagger = Tagger.load(model)
        texts = [s.text.strip() for s in read_checked(read_source(source, "ner", None))[VALIDATION]]
    groups = [texts[i : i + sentences] for i in range(0, len(texts) - sentences + 1, sentences)]
    for name, glue in GLUE.items():
        agreed = found = 0
        for group in groups:
            alone, begin = set(), 0
            for text, entities in zip(group, spans(tagger, group), strict=True):
                alone |= {(begin + start, begin + end, label) for start, end, label in entities}
                begin += len(text) + len(glue)
            (joined,) = spans(tagger, [glue.join(group)])
            agreed += 2 * len(alone & joined)
            found += len(alone) + len(joined)
        click.echo(f"{len(groups)} texts of {sentences} sentences, {name}: {agreed / found:.4f} agree (F1)")


if __name__ == "__main__":
    main()
