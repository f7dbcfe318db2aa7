import warnings

import numpy as np
import pytest

from koner.report.plots import plot_balance, plot_confusion

# Hangul, Hanja and Latin letters, and a character that no font has.
LABELS = ["인명", "地名", "PS_NAME", "📱요금제"]


@pytest.mark.parametrize("kind", ["balance", "confusion"])
def test_labels_in_any_script_are_drawn_without_missing_glyphs(kind, tmp_path):
    def draw(labels, name):
        path = tmp_path / name
        if kind == "balance":
            plot_balance({"train": dict.fromkeys(labels, 0.25)}, path)
        else:
            plot_confusion(np.eye(len(labels), dtype=int), labels, "confusion", path)
        return path.read_bytes()

    with warnings.catch_warnings():
        # matplotlib warns of a character that it draws as an empty box.
        warnings.simplefilter("error")
        drawn = draw(LABELS, "a.png")
        assert draw(LABELS, "b.png") == drawn
        # Hangul is drawn as it is, and not as its code points; a character that no font has is.
        assert draw(["U+C778U+BA85", *LABELS[1:]], "c.png") != drawn
        assert draw([*LABELS[:3], "U+1F4F1요금제"], "d.png") == drawn
