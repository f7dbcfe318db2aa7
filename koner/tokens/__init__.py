"""Windows of tokens, the alignment of character tags to tokens, and its oracle score."""
