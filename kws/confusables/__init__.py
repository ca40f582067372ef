"""What sounds like a keyword and is not it."""
