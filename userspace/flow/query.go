package flow

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Group says what a row of an Answer adds up.
type Group uint8

const (
	ByFlow    Group = iota // nothing: a row is a flow
	ByAddress              // a host: direction 0 is what it sent
	ByService              // an address, protocol and port that is called
	ByEdge                 // who calls which service: the service map
	groupCount
)

// Order says which rows come first.
type Order uint8

const (
	MostRate Order = iota // bytes a second now
	MostBytes
	MostPackets
	MostFlows
	MostLoss // retransmissions and reordering on the network
	SlowestHandshake
	Newest // by last packet
	orderCount
)

// Match picks flows. Zero fields pick all.
type Match struct {
	Address  netip.Prefix // either side
	Port     uint16       // either side
	Protocol uint8
	VLAN     uint16 // outer or inner
	Feed     uint32 // either direction
	Domain   uint32
}

// Query is what a view wants to see.
type Query struct {
	By    Group
	Order Order
	Limit int // rows, 1 to 1000
	Match Match
}

// Row is a line of an Answer: a flow, or the sum of the flows of a group, in
// which only the fields that make the group identify anything. RTTs of a group
// are of its slowest handshake.
type Row struct {
	Flow
	Flows uint64
	Rate  uint64 // bytes a second since the view's look before
}

// Answer is the first rows of what matched, and the sum of the others.
type Answer struct {
	Rows []Row
	Rest Row
}

const (
	maxRows   = 1000
	maxGroups = 4096 // groups added up in one table; more go to Rest
	busyLook  = 16   // entries looked at in one Flush
	idleLook  = 1 << 14
	minRate   = 1e8 // ns between looks for a rate
)

// desk is where a view's request lies for the worker.
type desk struct {
	turn    chan struct{} // held by the one who asks; the worker never waits for it
	request atomic.Pointer[request]
}

// request is filled by the worker a few entries at a time. The worker touches
// it until done is closed.
type request struct {
	query  Query
	cursor int
	rows   []Row
	scores []uint64
	groups map[groupKey]int
	rest   Row
	given  atomic.Bool // up: nobody waits any more
	done   chan struct{}
}

// groupKey is what flows of one row share.
type groupKey struct {
	address   [2][16]byte
	port      uint16
	etherType uint16
	protocol  uint8
}

// Ask puts a query to the tables' workers and adds up their answers. Any
// goroutine may call it. The workers answer beside their work, within about a
// second for a million flows; ctx bounds the wait, for a worker that has
// stopped does not answer.
func Ask(ctx context.Context, q Query, tables ...*Table) (Answer, error) {
	q.Limit = min(max(q.Limit, 1), maxRows)
	if q.By >= groupCount {
		q.By = ByFlow
	}
	if q.Order >= orderCount {
		q.Order = MostRate
	}
	answers := make([]*request, len(tables))
	group, ctx := errgroup.WithContext(ctx)
	for i, t := range tables {
		group.Go(func() (err error) {
			answers[i], err = t.desk.ask(ctx, q)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Answer{}, fmt.Errorf("asking the flow tables: %w", err)
	}
	total := newRequest(q)
	for _, r := range answers {
		for i := range r.rows {
			total.take(&r.rows[i])
		}
		total.rest.add(&r.rest)
	}
	return total.answer(), nil
}

func newRequest(q Query) *request {
	r := &request{query: q, done: make(chan struct{})}
	if q.By == ByFlow {
		r.rows = make([]Row, 0, q.Limit)
		r.scores = make([]uint64, 0, q.Limit)
	} else {
		r.rows = make([]Row, 0, maxGroups)
		r.groups = make(map[groupKey]int, maxGroups)
	}
	return r
}

func (d *desk) ask(ctx context.Context, q Query) (*request, error) {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-d.turn }()
	r := newRequest(q)
	d.request.Store(r)
	select {
	case <-r.done:
		return r, nil
	case <-ctx.Done():
		r.given.Store(true)
		return nil, ctx.Err()
	}
}

// serve looks at some entries for the view that waits, if one does.
func (t *Table) serve(limit int) {
	r := t.desk.request.Load()
	if r == nil {
		return
	}
	if r.given.Load() {
		t.desk.request.CompareAndSwap(r, nil)
		return
	}
	end := min(r.cursor+limit, t.used)
	for ; r.cursor < end; r.cursor++ {
		t.look(r, uint32(r.cursor))
	}
	if r.cursor >= t.used {
		t.desk.request.CompareAndSwap(r, nil)
		close(r.done)
	}
}

// look shows one entry to a view.
func (t *Table) look(r *request, i uint32) {
	if t.deadline[i] == never || t.hot[i].bits&bitFresh != 0 || !r.query.Match.key(&t.cold[i].key) {
		return
	}
	var row Row
	t.describe(i, &row.Flow)
	if m := &r.query.Match; m.Feed != 0 && row.Feed[0] != m.Feed && row.Feed[1] != m.Feed {
		return
	}
	row.Flows = 1
	row.Rate = t.rate(i)
	r.put(row)
}

// put takes the row of a flow, under both of its ends when hosts are asked for.
func (r *request) put(row Row) {
	if r.query.By == ByAddress {
		back := row
		back.reverse()
		r.take(back.reduce(ByAddress))
	}
	r.take(row.reduce(r.query.By))
}

// rate is the flow's bytes a second since the last look at it.
func (t *Table) rate(i uint32) uint64 {
	e, c := &t.hot[i], &t.cold[i]
	now, bytes := t.clock.last, e.bytes[0]+e.bytes[1]
	since, before := c.shownAt, c.shown
	if since == 0 {
		since, before = min(c.first, now-min(now, 1e9)), 0
	}
	if now-since < minRate && c.shownAt != 0 || now <= since {
		return c.shownRate
	}
	c.shownRate = uint64(float64(bytes-min(before, bytes)) * 1e9 / float64(now-since))
	c.shown, c.shownAt = bytes, now
	return c.shownRate
}

// key is the part of a Match that a key decides.
func (m *Match) key(k *key) bool {
	switch {
	case m.Protocol != 0 && m.Protocol != k.protocol(),
		m.Port != 0 && m.Port != k.port(0) && m.Port != k.port(1),
		m.VLAN != 0 && uint64(m.VLAN) != k[5]>>16&0xffff && uint64(m.VLAN) != k[5]&0xffff,
		m.Domain != 0 && m.Domain|domainScope != k.scope():
		return false
	}
	if !m.Address.IsValid() {
		return true
	}
	if k.protocol() == notIP {
		return false
	}
	for side := range uint8(2) {
		if m.Address.Contains(netip.AddrFrom16(address(k, side)).Unmap()) {
			return true
		}
	}
	return false
}

// reverse turns the row to the other side's point of view.
func (r *Row) reverse() {
	f := &r.Flow
	swap(&f.Packets)
	swap(&f.Bytes)
	swap(&f.Address)
	swap(&f.MAC)
	swap(&f.Feed)
	swap(&f.Retransmissions)
	swap(&f.OutOfOrder)
	swap(&f.ZeroWindows)
	swap(&f.Gaps)
	swap(&f.MirrorReordered)
	swap(&f.MirrorGaps)
	swap(&f.Copies)
	swap(&f.Resets)
	swap(&f.Port)
	swap(&f.TCPFlags)
}

func swap[T any](pair *[2]T) { pair[0], pair[1] = pair[1], pair[0] }

// reduce leaves of a row only what identifies its group, and the sums.
func (r *Row) reduce(by Group) *Row {
	if by == ByFlow {
		return r
	}
	r.ID, r.VLAN, r.Feed, r.ICMPID = 0, [2]uint16{}, [2]uint32{}, 0
	r.TCPFlags, r.TCPState, r.Certain, r.Continued = [2]uint8{}, StateNone, false, false
	r.Port[0] = 0
	switch by {
	case ByAddress:
		r.Address[1], r.MAC[1] = [16]byte{}, [6]byte{}
		r.Port[1], r.ICMPType, r.ICMPCode = 0, 0, 0
		if r.IsIP() {
			r.Protocol = 0
		}
	case ByService:
		r.Address[0], r.MAC[0] = [16]byte{}, [6]byte{}
	}
	if r.IsIP() {
		r.MAC = [2][6]byte{}
	}
	return r
}

func (r *Row) group() (k groupKey) {
	k = groupKey{address: r.Address, port: r.Port[1], etherType: r.EtherType, protocol: r.Protocol}
	if !r.IsIP() {
		copy(k.address[0][:], r.MAC[0][:])
		copy(k.address[1][:], r.MAC[1][:])
	}
	return k
}

// add sums o into r.
func (r *Row) add(o *Row) {
	r.Flows += o.Flows
	r.Rate += o.Rate
	if r.First == 0 || o.First != 0 && o.First < r.First {
		r.First = o.First
	}
	r.Last = max(r.Last, o.Last)
	r.Handshake = max(r.Handshake, o.Handshake)
	r.ServerRTT = max(r.ServerRTT, o.ServerRTT)
	r.ClientRTT = max(r.ClientRTT, o.ClientRTT)
	r.FirstByte = max(r.FirstByte, o.FirstByte)
	r.Weight = max(r.Weight, o.Weight)
	for d := range 2 {
		r.Packets[d] += o.Packets[d]
		r.Bytes[d] += o.Bytes[d]
		r.Retransmissions[d] += o.Retransmissions[d]
		r.OutOfOrder[d] += o.OutOfOrder[d]
		r.ZeroWindows[d] += o.ZeroWindows[d]
		r.Gaps[d] += o.Gaps[d]
		r.MirrorReordered[d] += o.MirrorReordered[d]
		r.MirrorGaps[d] += o.MirrorGaps[d]
		r.Copies[d] += o.Copies[d]
		r.Resets[d] += o.Resets[d]
	}
}

func (r *Row) score(order Order) uint64 {
	switch order {
	case MostBytes:
		return r.Bytes[0] + r.Bytes[1]
	case MostPackets:
		return r.Packets[0] + r.Packets[1]
	case MostFlows:
		return r.Flows
	case MostLoss:
		return uint64(r.Retransmissions[0]) + uint64(r.Retransmissions[1]) + uint64(r.OutOfOrder[0]) + uint64(r.OutOfOrder[1])
	case SlowestHandshake:
		return max(r.Handshake, r.ServerRTT)
	case Newest:
		return r.Last
	}
	return r.Rate
}

// take adds a row to the request: to its group, or to the best flows so far.
func (r *request) take(row *Row) {
	if r.groups != nil {
		k := row.group()
		if i, ok := r.groups[k]; ok {
			r.rows[i].add(row)
		} else if len(r.rows) < cap(r.rows) || r.query.Limit == 0 {
			r.groups[k] = len(r.rows)
			r.rows = append(r.rows, *row)
		} else {
			r.rest.add(row)
		}
		return
	}
	score := row.score(r.query.Order)
	if len(r.rows) < cap(r.rows) || r.query.Limit == 0 {
		r.rows = append(r.rows, *row)
		r.scores = append(r.scores, score)
		return
	}
	worst := 0
	for i, s := range r.scores {
		if s < r.scores[worst] {
			worst = i
		}
	}
	if score <= r.scores[worst] {
		r.rest.add(row)
		return
	}
	r.rest.add(&r.rows[worst])
	r.rows[worst], r.scores[worst] = *row, score
}

// answer sorts the rows and cuts them to the limit.
func (r *request) answer() Answer {
	slices.SortStableFunc(r.rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.score(r.query.Order), a.score(r.query.Order)), cmp.Compare(a.ID, b.ID))
	})
	a := Answer{Rows: r.rows, Rest: r.rest}
	if r.query.Limit > 0 && len(a.Rows) > r.query.Limit {
		for i := range a.Rows[r.query.Limit:] {
			a.Rest.add(&a.Rows[r.query.Limit+i])
		}
		a.Rows = a.Rows[:r.query.Limit]
	}
	return a
}
