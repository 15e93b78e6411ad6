package main

import (
	"fmt"
	"html"
	"strings"
)

// chart is horizontal bars in groups: a group for each load, a bar for each
// receiver.
type chart struct {
	Name   string // of the file, without .svg
	Title  string
	Unit   string
	groups []chartGroup
}

type chartGroup struct {
	title string
	bars  []bar
}

type bar struct {
	label string
	value float64
}

// add appends a bar to a group, which it makes if it is new.
func (c *chart) add(group, label string, value float64) {
	if n := len(c.groups); n == 0 || c.groups[n-1].title != group {
		c.groups = append(c.groups, chartGroup{title: group})
	}
	last := &c.groups[len(c.groups)-1]
	last.bars = append(last.bars, bar{label, value})
}

var barColours = []string{"#4878a8", "#e49444", "#6a9f58", "#d1615d", "#85b6b2", "#967662", "#a87c9f", "#e7ca60"}

// svg draws the chart. A label has the same colour in every group.
func (c *chart) svg() string {
	const (
		width, left, right = 860, 340, 70
		barHeight, gap     = 18, 26
		top                = 40
	)
	highest, height := 0.0, top
	colours := map[string]string{}
	for _, g := range c.groups {
		height += gap + barHeight*len(g.bars)
		for _, b := range g.bars {
			highest = max(highest, b.value)
			if colours[b.label] == "" {
				colours[b.label] = barColours[len(colours)%len(barColours)]
			}
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", width, height+12)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	fmt.Fprintf(&out, `<text x="12" y="24" font-size="15">%s</text>`+"\n", html.EscapeString(c.Title))
	y := top
	for _, g := range c.groups {
		fmt.Fprintf(&out, `<text x="12" y="%d" font-weight="bold">%s</text>`+"\n", y+gap-8, html.EscapeString(g.title))
		y += gap
		for _, b := range g.bars {
			length := 0.0
			if highest > 0 {
				length = b.value / highest * (width - left - right)
			}
			fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+13, html.EscapeString(b.label))
			fmt.Fprintf(&out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y+2, length, barHeight-4, colours[b.label])
			fmt.Fprintf(&out, `<text x="%.1f" y="%d">%.2f %s</text>`+"\n", left+length+6, y+13, b.value, html.EscapeString(c.Unit))
			y += barHeight
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}
