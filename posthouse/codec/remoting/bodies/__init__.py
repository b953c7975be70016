"""Bodies of requests and answers that are not messages, one module per concept: bytes to values and back."""
