"""The stages of the pipeline, one script each: `python -m stages.prepare` and so on, from the repository's root."""

from transformers.utils import logging

# A new head on a base model and a written file are no news; faults are raised, not logged.
logging.set_verbosity_error()
logging.disable_progress_bar()
