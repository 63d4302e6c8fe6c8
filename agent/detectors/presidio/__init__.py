"""The one door to presidio-analyzer: a lean import, an engine without a model, recognisers from YAML documents."""
