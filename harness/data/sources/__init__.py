"""Where images and annotations come from: one module per format."""
