"""Process entry points: the only place that wires services, API and a DR machine together."""
