package main

import (
	"net/http"
	"time"
)

type ollamaMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type ollamaLine struct {
	Model     string        `json:"model"`
	CreatedAt time.Time     `json:"created_at"`
	Message   ollamaMessage `json:"message"`
	Done      bool          `json:"done"`
	*ollamaEnd
}

type ollamaEnd struct {
	DoneReason         string `json:"done_reason"`
	TotalDuration      int64  `json:"total_duration"`
	LoadDuration       int64  `json:"load_duration"`
	PromptEvalCount    int    `json:"prompt_eval_count"`
	PromptEvalDuration int64  `json:"prompt_eval_duration"`
	EvalCount          int    `json:"eval_count"`
	EvalDuration       int64  `json:"eval_duration"`
}

// ollamaChat is POST /api/chat, which streams lines of JSON unless it is told not to.
func ollamaChat(x *exchange) (err error) {
	if x.reply, err = replyTo(x.request); err != nil {
		return err
	}
	line := func(text string, end *ollamaEnd) ollamaLine {
		return ollamaLine{x.reply.model, time.Now().UTC(), ollamaMessage{"assistant", text}, end != nil, end}
	}
	end := &ollamaEnd{
		DoneReason: "stop", TotalDuration: 3, LoadDuration: 1, PromptEvalCount: x.promptTokens, PromptEvalDuration: 1,
		EvalCount: len(x.tokens), EvalDuration: 1,
	}
	if !x.streams(true) {
		x.whole(http.StatusOK, line(x.text, end))
		return nil
	}
	write := x.begin(jsonLines)
	for _, token := range x.tokens {
		write("%s\n", line(token, nil))
	}
	write("%s\n", line("", end))
	return nil
}
