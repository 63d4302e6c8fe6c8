"""An LLM-like server on loopback and real TLS clients, whose every prompt and answer is known beforehand."""
