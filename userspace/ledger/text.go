package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/unspan/unspan/userspace/feed"
)

// TextOptions says how much to print. The zero value prints what is not zero,
// and every feed.
type TextOptions struct {
	All   bool // boxes and columns that are zero too
	Feeds int  // at most so many feeds, those with most packets; 0: every feed
}

// WriteText prints the ledger for people: each line a sum, one box a row, losses
// marked with their kind, and the verdict on the whole at the end.
func (s *Snapshot) WriteText(w io.Writer, o TextOptions) error {
	lines := s.Lines()
	var b bytes.Buffer
	s.heading(&b)
	writeLines(&b, lines, o)
	s.writeFeeds(&b, o)
	s.writeRules(&b)
	writeLosses(&b, lines, s.losses())
	s.conclude(&b, lines)
	_, err := w.Write(b.Bytes())
	return err
}

func (s *Snapshot) heading(b *bytes.Buffer) {
	precision := 100 * time.Millisecond
	if s.Elapsed < 10*time.Second {
		precision = time.Millisecond
	}
	fmt.Fprintf(b, "Ledger of %s, %s", s.Subject, s.Elapsed.Round(precision))
	if !s.Final {
		b.WriteString(", still running")
	}
	b.WriteString("\n\n")
}

// row is one printed line of a sum.
type row struct {
	title, sign, text, number, mark string
}

func writeLines(b *bytes.Buffer, lines []Line, o TextOptions) {
	var rows []row
	for i := range lines {
		rows = append(rows, lines[i].rows(o.All)...)
		rows = append(rows, row{})
	}
	var title, text, number int
	for _, r := range rows {
		title = max(title, utf8.RuneCountInString(r.title))
		number = max(number, len(r.number))
		if r.number != "" {
			text = max(text, utf8.RuneCountInString(r.text))
		}
	}
	for _, r := range rows {
		line := fmt.Sprintf("  %-*s %1s %-*s  %*s   %s", title, r.title, r.sign, text, r.text, number, r.number, r.mark)
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
}

func (l *Line) rows(all bool) []row {
	rows := []row{{title: l.Title, text: l.In.Title, number: group(l.In.Packets)}}
	sign := "="
	add := func(text string, packets uint64, mark string) {
		rows = append(rows, row{sign: sign, text: text, number: group(packets), mark: mark})
		sign = "+"
	}
	for _, box := range l.Boxes {
		if box.Packets > 0 || all {
			add(box.Title, box.Packets, box.Kind.mark())
		}
	}
	switch balance := l.Balance(); {
	case balance > 0 && l.Adds():
		add("on their way", uint64(balance), "read while running")
	case balance > 0:
		add("IN NO BOX", uint64(balance), "does not add up")
	case balance < 0:
		rows = append(rows, row{sign: "-", text: "COUNTED TWICE", number: group(uint64(-balance)), mark: "does not add up"})
	case sign == "=":
		add(l.Boxes[0].Title, 0, "")
	}
	for _, note := range l.Notes {
		rows = append(rows, row{text: note})
	}
	return rows
}

// mark is what stands behind a box's number.
func (k Kind) mark() string {
	switch k {
	case Onward:
		return ""
	case NotOurs:
		return "not ours"
	default:
		return k.String()
	}
}

// Columns of the feed table.
type column struct {
	head string
	cell func(*Feed) string
	left bool // aligned left
	rare bool // left out when every cell is "0"
}

var feedColumns = [...]column{
	{head: "feed", left: true, cell: (*Feed).Name},
	{head: "collector", left: true, cell: func(f *Feed) string { return address(feed.Collector(&f.Key)) }},
	{head: "packets", cell: func(f *Feed) string { return group(f.State.Packets) }},
	{head: "bytes", cell: func(f *Feed) string { return group(f.State.Bytes) }},
	{head: "kept", cell: func(f *Feed) string { return group(f.State.Kept) }},
	{head: "lost", cell: lossCell},
	{head: "late", rare: true, cell: func(f *Feed) string { return group(f.State.Sequence.Reordered) }},
	{head: "twice", rare: true, cell: func(f *Feed) string { return group(f.State.Sequence.Duplicates) }},
	{head: "strays", rare: true, cell: func(f *Feed) string { return group(f.State.Sequence.Strays) }},
	{head: "loops", rare: true, cell: func(f *Feed) string { return group(f.State.Loops) }},
	{head: "restarts", rare: true, cell: func(f *Feed) string { return group(f.State.Sequence.Restarts) }},
}

func lossCell(f *Feed) string {
	switch lost := f.State.Sequence.Lost; {
	case !f.Sequenced():
		return "unknown"
	case lost == 0:
		return "0"
	default:
		return fmt.Sprintf("%s (%.2g%%)", group(lost), 100*float64(lost)/float64(f.Expected()))
	}
}

func (s *Snapshot) writeFeeds(b *bytes.Buffer, o TextOptions) {
	if len(s.Feeds) == 0 {
		return
	}
	feeds := slices.Clone(s.Feeds)
	slices.SortFunc(feeds, func(x, y Feed) int {
		return cmp.Or(cmp.Compare(y.State.Packets, x.State.Packets), cmp.Compare(x.Name(), y.Name()))
	})
	var rest []Feed
	if o.Feeds > 0 && len(feeds) > o.Feeds {
		feeds, rest = feeds[:o.Feeds], feeds[o.Feeds:]
	}
	var columns [][]string
	var left []bool
	for _, c := range feedColumns {
		cells, zero := []string{c.head}, true
		for i := range feeds {
			cell := c.cell(&feeds[i])
			cells, zero = append(cells, cell), zero && cell == "0"
		}
		if !c.rare || !zero || o.All {
			columns, left = append(columns, cells), append(left, c.left)
		}
	}
	for i := 0; i <= len(feeds); i++ {
		var line strings.Builder
		for c, cells := range columns {
			width := 0
			for _, cell := range cells {
				width = max(width, len(cell))
			}
			if left[c] {
				width = -width
			}
			fmt.Fprintf(&line, "  %*s", width, cells[i])
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	if len(rest) > 0 {
		var packets uint64
		for i := range rest {
			packets += rest[i].State.Packets
		}
		fmt.Fprintf(b, "  and %s more with %s\n", count(uint64(len(rest)), "feed", "feeds"), count(packets, "packet", "packets"))
	}
	b.WriteByte('\n')
}

// WriteRules prints what the policy has done; nothing when it has no rules.
func (s *Snapshot) WriteRules(w io.Writer) error {
	var b bytes.Buffer
	s.writeRules(&b)
	_, err := w.Write(b.Bytes())
	return err
}

func (s *Snapshot) writeRules(b *bytes.Buffer) {
	if len(s.Rules) == 0 && len(s.Overlaps) == 0 {
		return
	}
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(s.Rules) > 0 {
		fmt.Fprintln(table, "packets\tkept\t  rule")
	}
	for _, r := range s.Rules {
		fmt.Fprintf(table, "%s\t%s\t  %s: %s\n", group(r.Packets), group(r.Kept), r.Name, r.Action)
	}
	if len(s.Overlaps) > 0 {
		fmt.Fprintln(table, "duplicates\t\t  seen first in, and again in")
	}
	for _, o := range s.Overlaps {
		fmt.Fprintf(table, "%s\t\t  %s, %s\n", group(o.Packets), o.First, o.Second)
	}
	_ = table.Flush() // to memory
	b.WriteByte('\n')
}

// WriteLosses says which loss is of which kind, a line for each kind.
func (s *Snapshot) WriteLosses(b *bytes.Buffer) { writeLosses(b, s.Lines(), s.losses()) }

// writeLosses says which loss is of which kind. The boxes of a kind are listed,
// not summed: a packet that arrived malformed may be a gap in a sequence too.
func writeLosses(b *bytes.Buffer, lines []Line, losses []Kind) {
	for _, k := range losses {
		var titles []string
		packets := map[string]uint64{} // of a title: a policy drops datagrams too
		for _, l := range lines {
			for _, box := range l.Boxes {
				if box.Kind != k || box.Packets == 0 {
					continue
				}
				if packets[box.Title] == 0 {
					titles = append(titles, box.Title)
				}
				packets[box.Title] += box.Packets
			}
		}
		text := make([]string, 0, len(titles))
		for _, title := range titles {
			text = append(text, title+" "+group(packets[title]))
		}
		if len(text) == 0 {
			text = append(text, "none")
		}
		fmt.Fprintf(b, "  %-8s  %s\n", k, strings.Join(text, ", "))
	}
	b.WriteByte('\n')
}

func (s *Snapshot) conclude(b *bytes.Buffer, lines []Line) {
	adds, moving := true, false
	for i := range lines {
		if !lines[i].Adds() {
			adds = false
			fmt.Fprintf(b, "  Line %s does not add up: %s. This is a defect: please report it.\n", lines[i].Title, lines[i].fault())
		}
		moving = moving || lines[i].Balance() != 0
	}
	switch {
	case adds && moving:
		b.WriteString("  Every line adds up, but for packets on their way while it was read.\n")
	case adds:
		b.WriteString("  Every line adds up.\n")
	}
}

// group writes a number with thousands separators: 1,234,567.
func group(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return group(n) + " " + many
}

// address is empty for the feeds that have none: RSPAN and native.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
