"""radclear: a CT study in; tumor location, lung disease and stage out."""

__version__ = "0.1.0"
