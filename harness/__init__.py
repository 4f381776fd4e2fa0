"""Which way of choosing training samples is best for my detector on my data, and is the difference real?"""

__version__ = "0.1.0"
