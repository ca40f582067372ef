"""Words and phrases that sound similar to a keyword, and their synthesis."""
