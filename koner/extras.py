"""The extras of the distribution, and the packages that each adds to the base installation."""

from __future__ import annotations

# By extra, the names under which its packages are imported. A test compares them with pyproject.toml and the imports.
EXTRAS = {
    "bulk": {"filelock", "fsspec", "pyarrow", "xxhash"},
    "corpus": {"ijson", "regex"},
    "spacy": {"spacy"},
    "ray": {"ray"},
    "train": {
        "accelerate",
        "datasets",
        "dvc",
        "huggingface_hub",
        "iterstrat",
        "jinja2",
        "kiwipiepy",
        "matplotlib",
        "nervaluate",
        "onnx",
        "psutil",
        "scipy",
        "seqeval",
        "sklearn",
        "torch",
        "transformers",
    },
    "audit": {"cleanlab"},
    "pretrain": {"dvclive", "gensim", "mecab"},
    "sweep": {"optuna", "sqlalchemy"},
}


def describe_missing(error: ModuleNotFoundError) -> str | None:
    """Return a sentence that names the extra which installs a missing package, or None if no extra does."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f"{package} is not installed; pip install 'koner[{extra}]'"
    return None
