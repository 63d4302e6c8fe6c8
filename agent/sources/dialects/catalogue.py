"""Which API an exchange belongs to: by host, by path, and by the shape of what was sent.

A known path on an unknown host is "some server that speaks OpenAI's API"; a known host with an unknown path is not
read, but told as HTTP.  Hosts and paths: the providers' API references, 2026-11.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["model", "mcp", "telemetry"]


class Api(NamedTuple):
    """An API: OTel's `gen_ai.provider.name`, `gen_ai.operation.name`, and how it is to be read."""

    provider: str
    operation: str
    kind: Kind = "model"


_HOSTS: tuple[tuple[str, str], ...] = (
    (r"(?:[\w-]+\.)?api\.openai\.com", "openai"),
    (r"[\w-]+\.openai\.azure\.com", "azure.ai.openai"),
    (r"[\w-]+\.(?:services\.ai|cognitiveservices|inference\.ai)\.azure\.com", "azure.ai.inference"),
    (r"api\.anthropic\.com", "anthropic"),
    (r"generativelanguage\.googleapis\.com", "gcp.gemini"),
    (r"(?:[\w-]+-)?aiplatform\.googleapis\.com", "gcp.vertex_ai"),
    (r"bedrock-(?:agent-)?runtime(?:-fips)?\.[\w-]+\.amazonaws\.com(?:\.cn)?", "aws.bedrock"),
    (r"(?:api|codestral)\.mistral\.ai", "mistral_ai"),
    (r"api\.cohere\.(?:com|ai)", "cohere"),
    (r"api\.groq\.com", "groq"),
    (r"api\.together\.(?:xyz|ai)", "together_ai"),
    (r"api\.deepseek\.com", "deepseek"),
    (r"openrouter\.ai", "openrouter"),
    (r"api\.x\.ai", "x_ai"),
    (r"api\.perplexity\.ai", "perplexity"),
    (r"api\.fireworks\.ai", "fireworks"),
    (r"api\.cerebras\.ai", "cerebras"),
    (r"(?:integrate|ai)\.api\.nvidia\.com", "nvidia_nim"),
    (r"router\.huggingface\.co|api-inference\.huggingface\.co|[\w.-]+\.endpoints\.huggingface\.cloud", "hugging_face"),
    (r"(?:oai|gateway|ai-gateway|anthropic)\.(?:helicone\.ai|hconeai\.com)", "helicone"),
    (r"gateway\.ai\.cloudflare\.com", "cloudflare"),
)
_TELEMETRY_HOSTS: tuple[tuple[str, str], ...] = (
    (r"(?:[\w-]+\.)?cloud\.langfuse\.com", "langfuse"),
    (r"(?:[\w-]+\.)?api\.smith\.langchain\.com", "langsmith"),
    (r"(?:[\w-]+\.)?api\.lunary\.ai", "lunary"),
    (r"api\.(?:helicone\.ai|hconeai\.com)", "helicone"),
    (r"api\.traceloop\.com", "traceloop"),
    (r"(?:app\.phoenix|otlp)\.arize\.com", "phoenix"),
    (r"logfire-\w+\.pydantic\.dev", "logfire"),
    (r"otlp-gateway-[\w-]+\.grafana\.net", "grafana"),
)
# Ordered: the first that fits.  The provider is the server's software where no host says more.
_PATHS: tuple[tuple[str, str, str], ...] = (
    (r"/openai/deployments/[^/]+/chat/completions", "azure.ai.openai", "chat"),
    (r"/openai/deployments/[^/]+/completions", "azure.ai.openai", "text_completion"),
    (r"/openai/deployments/[^/]+/embeddings", "azure.ai.openai", "embeddings"),
    (r".*/chat/completions", "openai", "chat"),
    (r".*/v\d\w*/responses(?:/.*)?|/(?:openai/)?responses", "openai", "chat"),
    (r".*/v\d\w*/messages(?:/count_tokens|/batches)?|/messages", "anthropic", "chat"),
    (r"/v1/complete", "anthropic", "text_completion"),
    (r".*/v\d\w*/(?:fim/)?completions|/completions?|/infill", "openai", "text_completion"),
    (r".*/v\d\w*/embeddings|/embeddings?|/embed(?:_all)?", "openai", "embeddings"),
    (r".*/v\d\w*/(?:moderations|conversations|agents/completions|ocr)(?:/.*)?", "openai", "chat"),
    (r".*/v\d\w*/(?:images|audio)/\w+", "openai", "generate_content"),
    (r".*/v\d\w*/realtime", "openai", "chat"),
    (r".*:(?:generateContent|streamGenerateContent|countTokens)", "gcp.gemini", "generate_content"),
    (r".*:(?:embedContent|batchEmbedContents)", "gcp.gemini", "embeddings"),
    (r".*:(?:rawPredict|streamRawPredict|serverStreamingPredict|predict)", "gcp.vertex_ai", "generate_content"),
    (r"/ws/google\.ai\.generativelanguage\..*BidiGenerateContent", "gcp.gemini", "generate_content"),
    (r"/v\d\w*/interactions", "gcp.gemini", "generate_content"),
    (r"/google\.(?:ai\.generativelanguage|cloud\.aiplatform)\..*/\w+", "gcp.gemini", "generate_content"),
    (r"/model/[^/]+/(?:converse|converse-stream)", "aws.bedrock", "chat"),
    (r"/model/[^/]+/(?:invoke|invoke-with-response-stream)", "aws.bedrock", "text_completion"),
    (r"/guardrail/[^/]+/version/[^/]+/apply", "aws.bedrock", "chat"),
    (
        r"/agents/.*/sessions/.*/text|/retrieveAndGenerate(?:Stream)?|/knowledgebases/[^/]+/retrieve",
        "aws.bedrock",
        "chat",
    ),
    (r"/v[12]/chat", "cohere", "chat"),
    (r"/v[12]/generate", "cohere", "text_completion"),
    (r"/v[12]/embed", "cohere", "embeddings"),
    (r"(?:/v[12])?/rerank", "cohere", "rerank"),
    (r"/api/chat", "ollama", "chat"),
    (r"/api/generate", "ollama", "text_completion"),
    (r"/api/(?:embed|embeddings)", "ollama", "embeddings"),
    (r"/generate(?:_stream)?", "text_generation_inference", "text_completion"),
    (r"/v2/models/[^/]+(?:/versions/[^/]+)?/(?:infer|generate|generate_stream)", "triton", "text_completion"),
    (r"/inference\.GRPCInferenceService/\w+", "triton", "text_completion"),
    (r"/(?:tokenize|detokenize|pooling|score|classify|invocations)", "vllm", "text_completion"),
    (r"/slots(?:/\d+)?", "llama.cpp", "text_completion"),
)
_TELEMETRY_PATHS: tuple[tuple[str, str], ...] = (
    (r"/api/public/(?:otel/v1/\w+|ingestion|scores|traces|media)(?:/.*)?", "langfuse"),
    (r"(?:/api/v1|/v1)?/runs(?:/multipart|/batch|/[\w-]+)?|/otel/v1/traces", "langsmith"),
    (r"/v1/runs/ingest|/api/report", "lunary"),
    (r"/(?:oai|custom|anthropic)/v1/log|/v1/trace/(?:custom/)?log", "helicone"),
    (r"/v1/(?:traces|logs|metrics)(?:/ingest)?", "otlp"),
    (r"/opentelemetry\.proto\.collector\..*/Export", "otlp"),
)
_compiled_hosts = tuple((re.compile(pattern), name) for pattern, name in _HOSTS)
_compiled_telemetry = tuple((re.compile(pattern), name) for pattern, name in _TELEMETRY_HOSTS)
_compiled_paths = tuple((re.compile(pattern), provider, operation) for pattern, provider, operation in _PATHS)
_compiled_posts = tuple((re.compile(pattern), name) for pattern, name in _TELEMETRY_PATHS)


def _by_name(table: tuple[tuple[re.Pattern[str], str], ...], text: str) -> str:
    return next((name for pattern, name in table if pattern.fullmatch(text)), "")


def api_of(host: str, path: str) -> Api | None:
    """The API a host (without port) and a path (without query) belong to, if they tell."""
    host, path = host.lower(), path.rstrip("/") or "/"
    if (name := _by_name(_compiled_telemetry, host)) and not name.startswith("helicone"):
        return Api(name, "telemetry", "telemetry")
    provider = _by_name(_compiled_hosts, host)
    found = next(((who, what) for pattern, who, what in _compiled_paths if pattern.fullmatch(path)), None)
    if found is not None:
        return Api(provider or found[0], found[1])
    if name := _by_name(_compiled_posts, path):
        return Api(name, "telemetry", "telemetry")
    if name := _by_name(_compiled_telemetry, host):
        return Api(name, "telemetry", "telemetry")
    return None


def api_of_shape(request: object) -> Api | None:
    """The API a request's JSON belongs to, whatever the host and path are."""
    if not isinstance(request, dict):
        return None
    keys = request.keys()
    if request.get("jsonrpc") == "2.0":
        return Api("mcp", "execute_tool", "mcp")
    if "anthropic_version" in keys:
        return Api("anthropic", "chat")
    if "contents" in keys and isinstance(request["contents"], list) and _has(request["contents"], "parts"):
        return Api("gcp.gemini", "generate_content")
    if "messages" in keys and isinstance(request["messages"], list) and _has(request["messages"], "role"):
        return Api("openai" if "model" in keys else "unknown", "chat")
    if "model" in keys and keys & {"input", "prompt"}:
        return Api("openai", "text_completion" if "prompt" in keys else "chat")
    if "inputs" in keys and "parameters" in keys:
        return Api("text_generation_inference", "text_completion")
    return None


def _has(items: list[object], key: str) -> bool:
    return any(isinstance(item, dict) and key in item for item in items)
