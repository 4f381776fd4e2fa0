"""The application: command line, composition of a configuration, execution of a run, the end of a sweep."""
