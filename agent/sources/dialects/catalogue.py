"""Which API an exchange belongs to: by host, by path, and by the shape of what was sent.

A known path on an unknown host is "some server that speaks OpenAI's API", if it is a path of its own; paths that other
servers have, too, need keys of that API in the request.  A known host with an unknown path is read by its shape or told
as HTTP.  Hosts and paths: the providers' API references, 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from agent.sources.dialects.vocabulary import ROLES

Kind: TypeAlias = Literal["model", "mcp", "telemetry"]


class Api(NamedTuple):
    """An API: OTel's `gen_ai.provider.name`, `gen_ai.operation.name`, and how it is to be read."""

    provider: str
    operation: str
    kind: Kind = "model"
    needs: str = ""  # keys the request must have: alternatives of `a+b` between bars; nothing if the path says enough


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
_MESSAGES = "messages+model|messages+max_tokens|messages+stream|messages+system|messages+tools"
_PROMPT = "prompt|inputs|text_input"
# Ordered: the first that fits.  The provider is the server's software where no host says more.  The last column holds
# what a request must have on a host that nobody knows, where other servers have such paths, too.
_PATHS: tuple[tuple[str, str, str, str], ...] = (
    (r"/openai/deployments/[^/]+/chat/completions", "azure.ai.openai", "chat", ""),
    (r"/openai/deployments/[^/]+/completions", "azure.ai.openai", "text_completion", ""),
    (r"/openai/deployments/[^/]+/embeddings", "azure.ai.openai", "embeddings", ""),
    (r".*/chat/completions", "openai", "chat", ""),
    (
        r".*/v\d\w*/responses(?:/.*)?|/(?:openai/)?responses(?:/.*)?",
        "openai",
        "chat",
        "input+model|prompt|input+instructions|input+previous_response_id",
    ),
    (r".*/v\d\w*/messages/batches", "anthropic", "chat", "requests"),
    (r".*/v\d\w*/messages(?:/count_tokens)?|/messages", "anthropic", "chat", _MESSAGES),
    (r"/v1/complete", "anthropic", "text_completion", "prompt"),
    (r".*/v\d\w*/(?:fim/)?completions", "openai", "text_completion", ""),
    (r"/completions?|/infill", "openai", "text_completion", "prompt|input_prefix|input_suffix"),
    (r".*/v\d\w*/embeddings", "openai", "embeddings", ""),
    (r"/embeddings?|/embed(?:_all)?", "openai", "embeddings", "input|inputs|content"),
    (r".*/v\d\w*/conversations(?:/.*)?", "openai", "chat", "items|inputs+model|inputs+agent_id|inputs+stream"),
    (r".*/v\d\w*/(?:moderations|agents/completions|ocr)(?:/.*)?", "openai", "chat", "input|messages|document+model"),
    (
        r".*/v\d\w*/(?:images/(?:generations|edits|variations)|audio/(?:speech|transcriptions|translations))",
        "openai",
        "generate_content",
        "",
    ),
    (r".*/v\d\w*/realtime", "openai", "chat", ""),
    (r".*:(?:generateContent|streamGenerateContent|countTokens)", "gcp.gemini", "generate_content", ""),
    (r".*:(?:embedContent|batchEmbedContents)", "gcp.gemini", "embeddings", ""),
    (r".*:(?:rawPredict|streamRawPredict|serverStreamingPredict|predict)", "gcp.vertex_ai", "generate_content", ""),
    (r"/ws/google\.ai\.generativelanguage\..*BidiGenerateContent", "gcp.gemini", "generate_content", ""),
    (r"/v\d\w*/interactions", "gcp.gemini", "generate_content", "input+model|input+agent"),
    (r"/google\.(?:ai\.generativelanguage|cloud\.aiplatform)\..*/\w+", "gcp.gemini", "generate_content", ""),
    (r"/model/[^/]+/(?:converse|converse-stream)", "aws.bedrock", "chat", ""),
    (r"/model/[^/]+/(?:invoke|invoke-with-response-stream)", "aws.bedrock", "text_completion", ""),
    (r"/guardrail/[^/]+/version/[^/]+/apply", "aws.bedrock", "chat", ""),
    (
        r"/agents/.*/sessions/.*/text|/retrieveAndGenerate(?:Stream)?|/knowledgebases/[^/]+/retrieve",
        "aws.bedrock",
        "chat",
        "",
    ),
    (
        r"/v[12]/chat",
        "cohere",
        "chat",
        f"{_MESSAGES}|message+model|message+chat_history|message+preamble|message+documents",
    ),
    (r"/v[12]/generate", "cohere", "text_completion", _PROMPT),
    (r"/v[12]/embed", "cohere", "embeddings", "texts|inputs|input+model"),
    (r"(?:/v[12])?/rerank", "cohere", "rerank", "query+documents|query+texts"),
    (r"/api/chat", "ollama", "chat", _MESSAGES),
    (r"/api/generate", "ollama", "text_completion", "model+prompt"),
    (r"/api/(?:embed|embeddings)", "ollama", "embeddings", "model+input|model+prompt"),
    (r"/generate(?:_stream)?", "text_generation_inference", "text_completion", _PROMPT),
    (r"/v2/models/[^/]+(?:/versions/[^/]+)?/(?:infer|generate|generate_stream)", "triton", "text_completion", ""),
    (r"/inference\.GRPCInferenceService/\w+", "triton", "text_completion", ""),
    (r"/score", "vllm", "text_completion", "text_1|queries+documents|queries+items|data_1"),
    (r"/classify|/pooling", "vllm", "text_completion", "model+input|inputs|model+messages"),
    (r"/tokenize|/detokenize", "vllm", "text_completion", "prompt|messages|content|inputs|input|tokens"),
    (r"/invocations", "vllm", "text_completion", "messages|prompt|inputs|input|instances"),
    (r"/slots(?:/\d+)?", "llama.cpp", "text_completion", "n_ctx|prompt"),
)
# What a host answers at paths that mean nothing elsewhere.
_OWN_PATHS: tuple[tuple[str, str, str], ...] = (
    ("hugging_face", r"/(?:(?:models|pipeline)/.+)?", "text_completion"),
    ("deepseek", r"/beta/completions", "text_completion"),
)
# What is read of a server without a request's body: prompts of its slots, and answers it keeps.
_READ_PATHS = re.compile(r"/slots(?:/\d+)?|(?:.*/v\d\w*|/openai)/responses/[^/]+(?:/input_items)?")
_TELEMETRY_PATHS: tuple[tuple[str, str, str], ...] = (
    (r"/api/public/(?:otel/v1/\w+|ingestion|scores|traces|media)(?:/.*)?", "langfuse", ""),
    (r"/v1/runs/ingest", "lunary", ""),
    (r"/api/report", "lunary", "events"),
    (r"(?:/api/v1|/v1)?/runs/multipart|/otel/v1/traces", "langsmith", ""),
    (r"(?:/api/v1|/v1)?/runs/batch", "langsmith", "post|patch"),
    (r"(?:/api/v1|/v1)?/runs(?:/[\w-]+)?", "langsmith", "run_type|dotted_order|trace_id|session_name+inputs"),
    (r"/(?:oai|custom|anthropic)/v1/log|/v1/trace/(?:custom/)?log", "helicone", ""),
    (r"/v1/(?:traces|logs|metrics)(?:/ingest)?", "otlp", ""),
    (r"/opentelemetry\.proto\.collector\..*/Export", "otlp", ""),
)
_compiled_hosts = tuple((re.compile(pattern), name) for pattern, name in _HOSTS)
_compiled_telemetry = tuple((re.compile(pattern), name) for pattern, name in _TELEMETRY_HOSTS)
_compiled_paths = tuple((re.compile(pattern), Api(who, what, "model", needs)) for pattern, who, what, needs in _PATHS)
_compiled_own = tuple((who, re.compile(pattern), what) for who, pattern, what in _OWN_PATHS)
_compiled_posts = tuple(
    (re.compile(pattern), Api(name, "telemetry", "telemetry", needs)) for pattern, name, needs in _TELEMETRY_PATHS
)


def _by_name(table: tuple[tuple[re.Pattern[str], str], ...], text: str) -> str:
    return next((name for pattern, name in table if pattern.fullmatch(text)), "")


def provider_of(host: str) -> str:
    """The provider whose host this is (without port), or nothing."""
    return _by_name(_compiled_hosts, host.lower())


def api_of(host: str, path: str) -> Api | None:
    """The API a host (without port) and a path (without query) belong to, if they tell."""
    host, path = host.lower(), path.rstrip("/") or "/"
    observer = _by_name(_compiled_telemetry, host)
    if observer and observer != "helicone":
        return Api(observer, "telemetry", "telemetry")
    provider = provider_of(host)
    if (found := next((api for pattern, api in _compiled_paths if pattern.fullmatch(path)), None)) is not None:
        return found._replace(provider=provider, needs="") if provider else found
    if own := next((what for who, one, what in _compiled_own if who == provider and one.fullmatch(path)), ""):
        return Api(provider, own)
    if (posted := next((api for pattern, api in _compiled_posts if pattern.fullmatch(path)), None)) is not None:
        return posted
    return Api(observer, "telemetry", "telemetry") if observer else None


def is_read(host: str, path: str) -> bool:
    """Whether what a server answers to a GET may be words of a model: anywhere at its provider, else at few paths."""
    return bool(provider_of(host)) or _READ_PATHS.fullmatch(path.rstrip("/")) is not None


def fits(api: Api, requests: Iterable[object]) -> bool:
    """Whether a path that is not an API's alone was asked for what that API is asked for."""
    if not api.needs:
        return True
    alternatives = [set(one.split("+")) for one in api.needs.split("|")]
    return any(
        isinstance(request, dict)
        and any(keys <= request.keys() for keys in alternatives)
        and ("messages" not in request or has_roles(request["messages"]))
        for request in requests
    )


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
    if "messages" in keys and has_roles(request["messages"]):
        return Api("openai" if "model" in keys else "unknown", "chat")
    if "model" in keys and keys & {"input", "prompt"}:
        return Api("openai", "text_completion" if "prompt" in keys else "chat")
    if "inputs" in keys and "parameters" in keys:
        return Api("text_generation_inference", "text_completion")
    return None


def has_roles(messages: object) -> bool:
    """Whether these are turns of a conversation with a model; ordinary messages have other roles, or none."""
    turns = messages if isinstance(messages, list) else []
    roles = [turn["role"] for turn in turns if isinstance(turn, dict) and isinstance(turn.get("role"), str)]
    return any(role.lower() in ROLES for role in roles)


def _has(items: list[object], key: str) -> bool:
    return any(isinstance(item, dict) and key in item for item in items)
