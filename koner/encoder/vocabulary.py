"""A WordPiece vocabulary whose pieces end where Korean morphemes end, and its tokenizer."""

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

from koner.text.morphemes import AnalysedText, analyse

CLS, PAD, SEP, UNK, MASK = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"
# Their ids are those of klue/roberta-base.
SPECIAL_TOKENS = (CLS, PAD, SEP, UNK, MASK)


@cache
def _common_characters() -> tuple[str, ...]:
    """Return the characters of any Korean text: ASCII, the letters of Hangul, and the 2,350 syllables of KS X 1001."""

    def in_euc_kr(character: str) -> bool:
        try:
            return len(character.encode("euc_kr")) == 2
        except UnicodeEncodeError:
            return False

    syllables = [chr(c) for c in range(0xAC00, 0xD7A4) if in_euc_kr(chr(c))]
    # NFKC turns the compatibility letters that people type (ㅋ) into others; the tokenizer sees those.
    letters = sorted({unicodedata.normalize("NFKC", chr(c)) for c in range(0x3131, 0x3164)})
    ascii_ = [chr(c) for c in range(0x21, 0x7F)]
    return (*ascii_, *letters, *syllables)


# Signs of the same meaning that newspapers use interchangeably; one character each, so that offsets stay the same.
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
    # Digits are single tokens: a small model can't learn a number from a piece that occurs once.
    return pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)])


_NORMALIZER, _PRE_TOKENIZER = _normalizer(), _pre_tokenizer()


def normalize(text: str) -> str:
    """Normalize a text as `make_tokenizer` does: NFKC, one sign for all of the same meaning, no control characters."""
    return str(_NORMALIZER.normalize_str(text))


def morpheme_pieces(analysed: AnalysedText) -> Iterator[str]:
    """Yield the WordPiece pieces of a normalized text whose words are split where a morpheme starts."""
    starts = {start for start, _, _ in analysed.morphemes}
    for word, (start, end) in _PRE_TOKENIZER.pre_tokenize_str(analysed.text):
        cuts = [0, *sorted(cut - start for cut in starts if start < cut < end), len(word)]
        for left, right in pairwise(cuts):
            yield word[left:right] if left == 0 else f"##{word[left:right]}"


def build_vocabulary(texts: Iterable[str], min_count: int) -> dict[str, int]:
    """Build a WordPiece vocabulary of common characters, the characters of texts, and their frequent morphemes.

    Greedy longest-match tokenization then splits `스타뎀의` between the name and the particle, since no piece spans a
    morpheme boundary; a WordPiece vocabulary trained on raw text has `##뎀의`.

    Args:
        texts: The texts.
        min_count: The least number of occurrences of a morpheme in the vocabulary.

    Returns:
        The id of each token: special tokens and characters first, then morphemes by frequency.
    """
    texts = tqdm(texts, "vocabulary", unit=" sentences", mininterval=1)
    pieces = chain.from_iterable(map(morpheme_pieces, analyse(map(normalize, texts))))
    return vocabulary_from_counts(Counter(pieces), min_count)


def vocabulary_from_counts(
    pieces: Counter[str], min_count: int, min_characters: int = 1, size: int | None = None
) -> dict[str, int]:
    """Build a WordPiece vocabulary from the counts of pieces, as `build_vocabulary` does.

    Args:
        pieces: The number of occurrences of each piece.
        min_count: The least number of occurrences of a piece in the vocabulary.
        min_characters: The least number of occurrences of a character that is not a common one.
        size: The size of the vocabulary, which the most frequent pieces fill; None for all pieces.
    """
    characters: dict[str, None] = dict.fromkeys(_common_characters())
    character_counts: Counter[str] = Counter()
    for piece, count in pieces.items():
        for character in piece.removeprefix("##"):
            character_counts[character] += count
    frequent_characters = sorted(c for c, count in character_counts.items() if count >= min_characters)
    characters.update(dict.fromkeys(frequent_characters))
    frequent_pieces = [
        piece
        for piece, count in sorted(pieces.items(), key=lambda item: (-item[1], item[0]))
        if count >= min_count and len(piece.removeprefix("##")) > 1
    ]
    single_characters = [form for character in characters for form in (character, f"##{character}")]
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *single_characters, *frequent_pieces])
    return {token: i for i, token in enumerate(islice(tokens, size))}


def make_tokenizer(vocabulary: dict[str, int], max_length: int) -> PreTrainedTokenizerBase:
    """Create a fast tokenizer of transformers from a WordPiece vocabulary: NFKC, words, single digits, WordPiece."""
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
