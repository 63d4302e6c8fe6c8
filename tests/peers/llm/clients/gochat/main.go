// Command gochat sends prompts as OpenAI chat requests with Go's own HTTP and TLS.
//
// What it takes and prints is the same for all programs of this folder: see clients/exchange.py.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chat struct {
	Model     string    `json:"model"`
	Messages  []message `json:"messages"`
	MaxTokens int       `json:"max_tokens,omitempty"`
	Stream    bool      `json:"stream,omitempty"`
}

type completion struct {
	Choices []struct {
		Message message `json:"message"`
		Delta   message `json:"delta"`
	} `json:"choices"`
}

type caller struct {
	client    *http.Client
	url       string
	stream    bool
	maxTokens int
}

func main() {
	c := caller{}
	url := flag.String("url", "", "the server's `URL`, without a path")
	file := flag.String("prompts", "", "`file` with a JSON list of prompts")
	concurrency := flag.Int("concurrency", 1, "requests at a time")
	ca := flag.String("ca", "", "CA `file` (PEM)")
	http2 := flag.Bool("http2", false, "speak HTTP/2 where the server does")
	flag.BoolVar(&c.stream, "stream", false, "ask for a stream of events")
	flag.IntVar(&c.maxTokens, "max-tokens", 0, "the answer's length (0: not asked for)")
	flag.Parse()
	c.url = *url + "/v1/chat/completions"
	prompts, err := read(*file)
	if err == nil {
		c.client, err = newClient(*ca, *http2, *concurrency)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gochat:", err)
		os.Exit(2)
	}
	if c.all(prompts, *concurrency) > 0 {
		os.Exit(1)
	}
}

func read(file string) (prompts []string, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return prompts, json.Unmarshal(raw, &prompts)
}

func newClient(ca string, http2 bool, concurrency int) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = concurrency
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.Protocols.SetHTTP2(http2)
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, errors.New("no certificate in " + ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &http.Client{Transport: transport}, nil
}

// all gives the number of failed exchanges.
func (c caller) all(prompts []string, concurrency int) int {
	var group sync.WaitGroup
	var lock sync.Mutex
	indexes := make(chan int)
	failed := 0
	for range concurrency {
		group.Add(1)
		go func() {
			defer group.Done()
			for index := range indexes {
				answer, status, err := c.exchange(prompts[index])
				lock.Lock()
				if err != nil {
					failed++
					fmt.Fprintf(os.Stderr, "%d: %v\n", index, err)
					fmt.Printf("%d - %d\n", index, status)
				} else {
					fmt.Printf("%d %x %d\n", index, sha256.Sum256([]byte(answer)), status)
				}
				lock.Unlock()
			}
		}()
	}
	for index := range prompts {
		indexes <- index
	}
	close(indexes)
	group.Wait()
	return failed
}

func (c caller) exchange(prompt string) (answer string, status int, err error) {
	body, err := json.Marshal(chat{
		Model:     "gpt-4o-mini",
		Messages:  []message{{"system", "You are a test."}, {"user", prompt}},
		MaxTokens: c.maxTokens,
		Stream:    c.stream,
	})
	if err != nil {
		return "", 0, err
	}
	response, err := c.client.Post(c.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(response.Body)
		return "", response.StatusCode, fmt.Errorf("%s: %.200s", response.Status, raw)
	}
	if c.stream {
		answer, err = streamed(response.Body)
		return answer, response.StatusCode, err
	}
	var whole completion
	if err := json.NewDecoder(response.Body).Decode(&whole); err != nil {
		return "", response.StatusCode, err
	}
	io.Copy(io.Discard, response.Body) // read to the end, or the connection is not kept
	return whole.Choices[0].Message.Content, response.StatusCode, nil
}

func streamed(body io.Reader) (string, error) {
	var answer strings.Builder
	done := false
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, isData := strings.CutPrefix(lines.Text(), "data: ")
		if done = done || data == "[DONE]"; done || !isData {
			continue
		}
		var chunk completion
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return "", err
		}
		for _, choice := range chunk.Choices {
			answer.WriteString(choice.Delta.Content)
		}
	}
	if !done && lines.Err() == nil {
		return "", errors.New("the stream ended without [DONE]")
	}
	return answer.String(), lines.Err()
}
