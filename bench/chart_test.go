package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	c := chart{Name: "x", Title: "A < B", Unit: "Mpps"}
	c.add("64 bytes", "one", 4)
	c.add("64 bytes", "two", 1)
	c.add("1400 bytes", "one", 2)
	text := c.svg()
	// The longest bar is as wide as there is room, 450, the others in proportion.
	for _, want := range []string{"A &lt; B", `width="450.0"`, `width="112.5"`, `width="225.0"`, ">4.00 Mpps<", ">1400 bytes<"} {
		if !strings.Contains(text, want) {
			t.Errorf("the chart lacks %s:\n%s", want, text)
		}
	}
	if n := strings.Count(text, barColours[0]); n != 2 {
		t.Errorf("the first label's colour is used %d times, want 2", n)
	}
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
