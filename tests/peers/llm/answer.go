package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// defaultCharacters is the length of an answer whose request does not ask for one.
const defaultCharacters = 200

// request has what the endpoints share; fields of one API only are absent in the others.
type request struct {
	Model     string    `json:"model"`
	Messages  []message `json:"messages"`
	MaxTokens *int      `json:"max_tokens"`
	Stream    *bool     `json:"stream"`
	Options   struct {
		NumPredict *int `json:"num_predict"` // Ollama's name for max_tokens
	} `json:"options"`
	Input          texts  `json:"input"` // embeddings
	EncodingFormat string `json:"encoding_format"`
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a string, or parts of which those with text count.
type content string

func (c *content) UnmarshalJSON(raw []byte) error {
	var whole string
	if json.Unmarshal(raw, &whole) == nil {
		*c = content(whole)
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return errors.New("content is neither a string nor a list of parts")
	}
	for _, part := range parts {
		*c += content(part.Text)
	}
	return nil
}

// texts is one string or a list of them.
type texts []string

func (t *texts) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(t))
}

// reply is what every API wraps in its own shape.
type reply struct {
	id           string
	created      time.Time
	model        string
	text         string
	tokens       []string
	promptTokens int
}

// replyTo is a function of the request but for the time.
func replyTo(r request) (reply, error) {
	prompt, found := "", false
	for _, one := range r.Messages {
		if one.Role == "user" {
			prompt, found = string(one.Content), true
		}
	}
	characters := defaultCharacters
	if r.Options.NumPredict != nil {
		characters = *r.Options.NumPredict
	}
	if r.MaxTokens != nil {
		characters = *r.MaxTokens
	}
	switch {
	case !found:
		return reply{}, errors.New("messages: no message of role user")
	case characters < 1:
		return reply{}, fmt.Errorf("max_tokens: %d is less than 1", characters)
	}
	sum := sha256.Sum256([]byte(prompt))
	text := answer(prompt, sum, characters)
	return reply{
		id:           hex.EncodeToString(sum[:12]),
		created:      time.Now().UTC(),
		model:        r.Model,
		text:         text,
		tokens:       tokensOf(text, sum),
		promptTokens: 1 + len(prompt)/4,
	}, nil
}

// answer has so many characters (Unicode code points): a word, the prompt's hash, the prompt's beginning over and over.
func answer(prompt string, sum [32]byte, characters int) string {
	head := "ANSWER " + hex.EncodeToString(sum[:]) + " "
	if characters <= len(head) {
		return head[:characters]
	}
	letters := []rune(prompt)
	if len(letters) == 0 {
		return head
	}
	var text strings.Builder
	text.WriteString(head)
	for i := range characters - len(head) {
		text.WriteRune(letters[i%len(letters)])
	}
	return text.String()
}

// tokensOf cuts a text in pieces of 1 to 5 characters, as the prompt's hash has it.
func tokensOf(text string, sum [32]byte) []string {
	var tokens []string
	letters := []rune(text)
	for i := 0; len(letters) > 0; i++ {
		size := min(1+int(sum[i%len(sum)])%5, len(letters))
		tokens = append(tokens, string(letters[:size]))
		letters = letters[size:]
	}
	return tokens
}
