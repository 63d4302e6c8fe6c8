package main

import "net/http"

type anthropicText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type anthropicUsage struct {
	InputTokens  int `json:"input_tokens,omitempty"`
	OutputTokens int `json:"output_tokens"`
}

type anthropicMessage struct {
	ID           string          `json:"id"`
	Type         string          `json:"type"`
	Role         string          `json:"role"`
	Model        string          `json:"model"`
	Content      []anthropicText `json:"content"`
	StopReason   *string         `json:"stop_reason"`
	StopSequence *string         `json:"stop_sequence"`
	Usage        anthropicUsage  `json:"usage"`
}

// anthropicMessages is POST /v1/messages.
func anthropicMessages(x *exchange) (err error) {
	if x.reply, err = replyTo(x.request); err != nil {
		return err
	}
	stop := "end_turn"
	message := anthropicMessage{
		ID: "msg_" + x.id, Type: "message", Role: "assistant", Model: x.reply.model,
		Content:    []anthropicText{{"text", x.text}},
		StopReason: &stop,
		Usage:      anthropicUsage{x.promptTokens, len(x.tokens)},
	}
	if !x.streams(false) {
		x.whole(http.StatusOK, message)
		return nil
	}
	message.Content, message.StopReason, message.Usage.OutputTokens = []anthropicText{}, nil, 1
	write := x.begin(eventStream)
	const event = "event: %s\ndata: %s\n\n"
	write(event, "message_start", struct {
		Type    string           `json:"type"`
		Message anthropicMessage `json:"message"`
	}{"message_start", message})
	write(event, "content_block_start", struct {
		Type         string        `json:"type"`
		Index        int           `json:"index"`
		ContentBlock anthropicText `json:"content_block"`
	}{"content_block_start", 0, anthropicText{"text", ""}})
	write(event, "ping", map[string]string{"type": "ping"})
	for _, token := range x.tokens {
		write(event, "content_block_delta", struct {
			Type  string        `json:"type"`
			Index int           `json:"index"`
			Delta anthropicText `json:"delta"`
		}{"content_block_delta", 0, anthropicText{"text_delta", token}})
	}
	write(event, "content_block_stop", struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}{"content_block_stop", 0})
	write(event, "message_delta", struct {
		Type  string         `json:"type"`
		Delta map[string]any `json:"delta"`
		Usage anthropicUsage `json:"usage"`
	}{"message_delta", map[string]any{"stop_reason": stop, "stop_sequence": nil}, anthropicUsage{OutputTokens: len(x.tokens)}})
	write(event, "message_stop", map[string]string{"type": "message_stop"})
	return nil
}
