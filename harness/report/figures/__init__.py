"""The figures of a report, as plotly objects. plotly is imported when the first one is drawn."""
