"""A WordPiece vocabulary whose pieces end where Korean morphemes end."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice, pairwise

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from koner.morphemes import Analysed, analyse

CLS, PAD, SEP, UNK, MASK = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"
# The ids that klue/roberta-base gives them.
SPECIAL_TOKENS = (CLS, PAD, SEP, UNK, MASK)


@cache
def _common_characters() -> tuple[str, ...]:
    """The 2,350 syllables of KS X 1001, the letters of Hangul, Latin and digits: what any Korean text is spelt with."""

    def in_euc_kr(character: str) -> bool:
        try:
            return len(character.encode("euc_kr")) == 2
        except UnicodeEncodeError:
            return False

    syllables = [chr(c) for c in range(0xAC00, 0xD7A4) if in_euc_kr(chr(c))]
    # NFKC turns the compatibility letters that people type (ㅋ) into these.
    letters = sorted({unicodedata.normalize("NFKC", chr(c)) for c in range(0x3131, 0x3164)})
    ascii_ = [chr(c) for c in range(0x21, 0x7F)]
    return (*ascii_, *letters, *syllables)


# Signs that differ from one newspaper's keyboard to the next, and mean the same; one character each.
_SAME_SIGNS = {"‘": "'", "’": "'", "“": '"', "”": '"', "∼": "~", "–": "-", "—": "-", "−": "-", "ᆞ": "·"}


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            *(normalizers.Replace(sign, plain) for sign, plain in _SAME_SIGNS.items()),
            normalizers.BertNormalizer(
                clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
            ),
        ]
    )


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    # Digits one by one: a small model can't learn a number from a piece that it saw once.
    return pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)])


_NORMALIZER, _PRE_TOKENIZER = _normalizer(), _pre_tokenizer()


def normalise(text: str) -> str:
    """A text as tokenizers of our own read it: NFKC, one sign where newspapers use several, no control characters."""
    return str(_NORMALIZER.normalize_str(text))


def morpheme_pieces(analysed: Analysed) -> Iterator[str]:
    """The pieces of a normalised text's words, cut where a morpheme begins; `##` before those inside a word."""
    begins = {start for start, _, _ in analysed.morphemes}
    for word, (start, end) in _PRE_TOKENIZER.pre_tokenize_str(analysed.text):
        cuts = [0, *sorted(b - start for b in begins if start < b < end), len(word)]
        for left, right in pairwise(cuts):
            yield word[left:right] if left == 0 else f"##{word[left:right]}"


def build_vocabulary(texts: Iterable[str], min_count: int) -> dict[str, int]:
    """Makes a WordPiece vocabulary: common characters, those of `texts`, and morphemes seen `min_count` times.

    Greedy longest-match then splits `스타뎀의` between name and particle, since no piece spans a morpheme boundary;
    WordPiece trained on raw text learns `##뎀의`. Deterministic; ids follow frequency.
    """
    texts = tqdm(texts, "vocabulary", unit=" sentences", mininterval=1)
    return vocabulary_of(Counter(chain.from_iterable(map(morpheme_pieces, analyse(map(normalise, texts))))), min_count)


def vocabulary_of(
    pieces: Counter[str], min_count: int, min_characters: int = 1, size: int | None = None
) -> dict[str, int]:
    """Makes a WordPiece vocabulary of counted pieces: see `build_vocabulary`.

    Characters beyond the common ones need `min_characters` occurrences; of the pieces the most frequent are taken, up
    to `size` tokens in all.
    """
    characters: dict[str, None] = dict.fromkeys(_common_characters())
    seen: Counter[str] = Counter()
    for piece, count in pieces.items():
        for character in piece.removeprefix("##"):
            seen[character] += count
    characters.update(dict.fromkeys(sorted(c for c, count in seen.items() if count >= min_characters)))
    frequent = [
        piece
        for piece, count in sorted(pieces.items(), key=lambda item: (-item[1], item[0]))
        if count >= min_count and len(piece.removeprefix("##")) > 1
    ]
    single = [form for character in characters for form in (character, f"##{character}")]
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *single, *frequent])
    return {token: i for i, token in enumerate(islice(tokens, size))}


def make_tokenizer(vocabulary: dict[str, int], max_length: int) -> PreTrainedTokenizerBase:
    """Wraps a vocabulary as a fast transformers tokenizer: NFKC, words, digits one by one, WordPiece."""
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=100))
    tokenizer.normalizer = _NORMALIZER
    tokenizer.pre_tokenizer = _PRE_TOKENIZER
    tokenizer.post_processor = processors.BertProcessing((SEP, vocabulary[SEP]), (CLS, vocabulary[CLS]))
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        cls_token=CLS,
        bos_token=CLS,
        pad_token=PAD,
        sep_token=SEP,
        eos_token=SEP,
        unk_token=UNK,
        mask_token=MASK,
    )
