"""The BIO scheme, entities, and scores of tag sequences."""
