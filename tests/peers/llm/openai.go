package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"net/http"
)

type openaiUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type openaiMessage struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type openaiDelta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type openaiChoice struct {
	Index        int            `json:"index"`
	Message      *openaiMessage `json:"message,omitempty"`
	Delta        *openaiDelta   `json:"delta,omitempty"`
	Logprobs     any            `json:"logprobs"`
	FinishReason *string        `json:"finish_reason"`
}

type openaiCompletion struct {
	ID                string         `json:"id"`
	Object            string         `json:"object"`
	Created           int64          `json:"created"`
	Model             string         `json:"model"`
	Choices           []openaiChoice `json:"choices"`
	Usage             *openaiUsage   `json:"usage"`
	SystemFingerprint string         `json:"system_fingerprint"`
}

// openaiChat is POST /v1/chat/completions; a stream always ends with usage, as with stream_options.include_usage.
func openaiChat(x *exchange) (err error) {
	if x.reply, err = replyTo(x.request); err != nil {
		return err
	}
	usage := &openaiUsage{x.promptTokens, len(x.tokens), x.promptTokens + len(x.tokens)}
	completion := openaiCompletion{
		ID: "chatcmpl-" + x.id, Object: "chat.completion", Created: x.created.Unix(), Model: x.reply.model,
		SystemFingerprint: "fp_llmpeer",
	}
	stop := "stop"
	if !x.streams(false) {
		message := &openaiMessage{Role: "assistant", Content: x.text}
		completion.Choices = []openaiChoice{{Message: message, FinishReason: &stop}}
		completion.Usage = usage
		x.whole(http.StatusOK, completion)
		return nil
	}
	write := x.begin(eventStream)
	completion.Object = "chat.completion.chunk"
	say := func(delta openaiDelta, finish *string) {
		completion.Choices = []openaiChoice{{Delta: &delta, FinishReason: finish}}
		write("data: %s\n\n", completion)
	}
	say(openaiDelta{Role: "assistant", Content: new(string)}, nil)
	for _, token := range x.tokens {
		say(openaiDelta{Content: &token}, nil)
	}
	say(openaiDelta{}, &stop)
	completion.Choices, completion.Usage = []openaiChoice{}, usage
	write("data: %s\n\n", completion)
	write("data: [DONE]\n\n")
	return nil
}

type openaiEmbedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"`
}

// openaiEmbeddings is POST /v1/embeddings: eight numbers from the input's hash, as base64 where asked (OpenAI's SDK asks).
func openaiEmbeddings(x *exchange) error {
	if len(x.Input) == 0 {
		return errors.New("input: neither a string nor a list of strings")
	}
	list, tokens := []openaiEmbedding{}, 0
	for index, text := range x.Input {
		tokens += 1 + len(text)/4
		sum := sha256.Sum256([]byte(text))
		vector, raw := []float32{}, []byte{}
		for i := range 8 {
			number := float32(binary.BigEndian.Uint32(sum[4*i:]))/(1<<31) - 1
			vector = append(vector, number)
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(number))
		}
		one := openaiEmbedding{"embedding", index, vector}
		if x.EncodingFormat == "base64" {
			one.Embedding = base64.StdEncoding.EncodeToString(raw)
		}
		list = append(list, one)
	}
	x.whole(http.StatusOK, struct {
		Object string            `json:"object"`
		Data   []openaiEmbedding `json:"data"`
		Model  string            `json:"model"`
		Usage  map[string]int    `json:"usage"`
	}{"list", list, x.request.Model, map[string]int{"prompt_tokens": tokens, "total_tokens": tokens}})
	return nil
}
