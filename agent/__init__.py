"""Reeve: runtime security and compliance for LLM workloads on Kubernetes.

The house is told in README.md beside this file.
"""

VERSION = "0.1.0"
