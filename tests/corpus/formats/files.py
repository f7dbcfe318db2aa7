"""Small files in every format, all of the same two sentences: an emoji, Hanja, and letters that are decomposed."""

import json
import unicodedata

from koner.labels.bio import Entity

# The emoji is one code point and two UTF-16 code units; 金 is Hanja.
TEXTS = ["🎉 서울에서 金 대표를 만났다.", "박은 부산으로 갔다."]
ENTITIES = [
    (Entity(2, 4, "LC"), Entity(7, 8, "PS")),
    (Entity(0, 1, "PS"), Entity(3, 5, "LC")),
]
SENTENCES = list(zip(TEXTS, ENTITIES, strict=True))


def spans(i, unit=len):
    """The start, end and type of each entity of a text, in code points or another unit of a prefix."""
    text, entities = SENTENCES[i]
    return [[unit(text[: e.start]), unit(text[: e.end]), e.label] for e in entities]


def utf16(text):
    return len(text.encode("utf-16-le")) // 2


def utf8(text):
    return len(text.encode())


def lines(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def regions(i, unit=len):
    text, entities = SENTENCES[i]
    return [
        {"start": start, "end": end, "text": text[e.start : e.end], "labels": [label]}
        for e, (start, end, label) in zip(entities, spans(i, unit), strict=True)
    ]


def task(i, unit=len, **annotation):
    result = [{"value": value, "from_name": "label", "to_name": "text", "type": "labels"} for value in regions(i, unit)]
    return {"id": i + 1, "data": {"text": TEXTS[i]}, "annotations": [{"id": 1, "result": result, **annotation}]}


def nikl(i, unit=len):
    text, entities = SENTENCES[i]
    return {
        "id": f"NER.{i + 1}",
        "form": text,
        "NE": [
            {"id": n, "form": text[e.start : e.end], "label": e.label, "begin": start, "end": end}
            for n, (e, (start, end, _)) in enumerate(zip(entities, spans(i, unit), strict=True), start=1)
        ],
    }


KLUE = """## 컬럼명 : CHAR\tNE_TAG
## a-1\t🎉 <서울:LC>에서 <金:PS> 대표를 만났다.
🎉\tO
 \tO
서\tB-LC
울\tI-LC
에\tO
서\tO
 \tO
金\tB-PS
 \tO
대\tO
표\tO
를\tO
 \tO
만\tO
났\tO
다\tO
.\tO

## a-2\t<박:PS>은 <부산:LC>으로 갔다.
박\tB-PS
은\tO
 \tO
부\tB-LC
산\tI-LC
으\tO
로\tO
 \tO
갔\tO
다\tO
.\tO
"""
# Words of the text, with the column of Universal Dependencies that tells where no space follows.
CONLL_U = """# sent_id = a-1
1\t🎉\t_\tO
2\t서울\tSpaceAfter=No\tB-LC
3\t에서\t_\tO
4\t金\t_\tB-PS
5\t대표를\t_\tO
6\t만났다\tSpaceAfter=No\tO
7\t.\t_\tO

# sent_id = a-2
1\t박\tSpaceAfter=No\tB-PS
2\t은\t_\tO
3\t부산\tSpaceAfter=No\tB-LC
4\t으로\t_\tO
5\t갔다\tSpaceAfter=No\tO
6\t.\t_\tO
"""
PIECES = """-DOCSTART- O

🎉 O
서울 B-LC
##에서 O
金 B-PS
대표 O
##를 O
만났다 O
##. O

박 B-PS
##은 O
부산 B-LC
##으로 O
갔다 O
##. O
"""
KMOU = """; 🎉 서울에서 金 대표를 만났다.
$🎉 <서울:LC>에서 <金:PS> 대표를 만났다.
1\t서울\tNNP\tB-LC
1\t에서\tJKB\tO

; 박은 부산으로 갔다.
$<박:PS>은 <부산:LC>으로 갔다.
1\t박\tNNP\tB-PS
"""
INLINE = "🎉 <서울:LC>에서 <金:PS> 대표를 만났다.\n<박:PS>은 <부산:LC>으로 갔다.\n"
BRAT_TEXT = "".join(f"{text}\n" for text in TEXTS)
BRAT = "T1\tLC 2 4\t서울\nT2\tPS 7 8\t金\nR1\tat Arg1:T2 Arg2:T1\nT3\tPS 18 19\t박\nT4\tLC 21 23\t부산\n"
DOCCANO = lines({"id": i, "text": TEXTS[i], "label": spans(i)} for i in (0, 1))
PRODIGY = lines(
    {"text": TEXTS[i], "spans": [{"start": s, "end": e, "label": t} for s, e, t in spans(i)], "answer": "accept"}
    for i in (0, 1)
)
CHARACTER_ROWS = lines(
    {
        "tokens": list(text),
        "ner_tags": [
            next((f"{'B' if i == e.start else 'I'}-{e.label}" for e in entities if e.start <= i < e.end), "O")
            for i in range(len(text))
        ],
    }
    for text, entities in SENTENCES
)
# By name of a file: its content and its format.
FILES = {
    "klue.tsv": (KLUE, "klue"),
    "ud.conllu": (CONLL_U, "conll"),
    "pieces.txt": (PIECES, "conll"),
    "rows.jsonl": (CHARACTER_ROWS, "tokens"),
    "doccano.jsonl": (DOCCANO, "doccano"),
    "doccano-labels.jsonl": (DOCCANO.replace('"label"', '"labels"'), "doccano"),
    "doccano-objects.jsonl": (
        lines(
            {
                "id": i,
                "text": TEXTS[i],
                "entities": [{"id": 7, "label": t, "start_offset": s, "end_offset": e} for s, e, t in spans(i)],
                "relations": [],
            }
            for i in (0, 1)
        ),
        "doccano",
    ),
    "prodigy.jsonl": (PRODIGY, "spans"),
    "prodigy-array.json": (json.dumps([json.loads(line) for line in PRODIGY.splitlines()]), "spans"),
    "studio.json": (json.dumps([task(0), task(1)], indent=1), "label-studio"),
    "studio-utf16.json": (json.dumps([task(0, utf16), task(1, utf16)]), "label-studio"),
    "studio-min.json": (
        json.dumps([{"id": i, "text": TEXTS[i], "label": regions(i, utf16), "annotator": 1} for i in (0, 1)]),
        "label-studio-min",
    ),
    "nikl.json": (
        json.dumps({"id": "N", "document": [{"id": "N.1", "sentence": [nikl(0), nikl(1)]}]}, ensure_ascii=False),
        "nikl",
    ),
    "inline.txt": (INLINE, "inline"),
    "kmou.txt": (KMOU, "inline"),
    "answers.jsonl": (
        lines(
            {
                "input": TEXTS[i],
                "result": [
                    {
                        "entity_group": r["labels"][0],
                        "score": 0.9,
                        "word": r["text"],
                        "start": r["start"],
                        "end": r["end"],
                    }
                    for r in regions(i, utf16)
                ],
            }
            for i in (0, 1)
        ),
        "koner",
    ),
}
DECOMPOSED = unicodedata.normalize("NFD", "서울")
