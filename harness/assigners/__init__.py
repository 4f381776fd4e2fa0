"""The assigners: which candidates are positive, negative or ignored. One published method per file."""
