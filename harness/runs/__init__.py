"""A run as files: configuration schema, records, run folder, environment. Nothing here imports torch at the top."""
