"""The names of the user attributes of trials in Optuna's storage."""

# How often the trial has been started since an epoch ended.
ATTEMPT = "attempt"
# Of a retry: the number of the trial that it repeats, and of the first trial in that chain.
RETRY_OF, FIRST = "again", "first"
