"""One experiment: its settled configuration and the pieces and data that it names, built once and handed down."""
