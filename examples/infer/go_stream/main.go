// Streams the embedding of a text: JSON events separated by blank lines, each handled as it arrives.
//
//	go run . http://localhost:8080 "a photo of a cat"
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
)

type request struct {
	Service       string            `json:"service"`
	Task          string            `json:"task"`
	Payload       []byte            `json:"payload"` // base64 in JSON
	CorrelationID string            `json:"correlation_id,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
}

type event struct {
	CorrelationID string            `json:"correlation_id"`
	IsFinal       bool              `json:"is_final"`
	Seq           uint64            `json:"seq"`
	Total         uint64            `json:"total"`
	Meta          map[string]string `json:"meta"`
	Result        []byte            `json:"result_b64"`
	ResultMime    string            `json:"result_mime"`
	Error         *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// blankLine splits at "\n\n".
func blankLine(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return i + 2, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func main() {
	url, text := "http://localhost:8080", "a photo of a cat"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	if len(os.Args) > 2 {
		text = os.Args[2]
	}
	reqBytes, err := json.Marshal(request{
		Service: "embedding_stream", Task: "lumen_clip_embed", Payload: []byte(text), CorrelationID: "go-1",
	})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := http.Post(url+"/v1/infer", "application/json", bytes.NewReader(reqBytes))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		log.Fatalf("the server answered %s", resp.Status)
	}
	scanner := bufio.NewScanner(resp.Body)
	scanner.Buffer(make([]byte, 0, 64*1024), 64*1024*1024)
	scanner.Split(blankLine)
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			log.Fatal(err)
		}
		if e.Error != nil {
			log.Fatalf("%s: %s", e.Error.Code, e.Error.Message)
		}
		fmt.Printf("chunk %d: %d bytes of %s, final: %t\n", e.Seq, len(e.Result), e.ResultMime, e.IsFinal)
	}
	if err := scanner.Err(); err != nil {
		log.Fatal(err)
	}
}
