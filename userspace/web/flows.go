package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/view"
)

const (
	questions = 2               // to the flow tables at once
	patience  = 5 * time.Second // with the flow tables
)

// flowAnswer is what the flow tables say.
type flowAnswer struct {
	Rows []rowAnswer `json:"rows"`
	Rest rowSums     `json:"rest"` // what matched and is not among the rows
}

// rowAnswer has the names that exported records have.
type rowAnswer struct {
	export.Row
	Flows uint64 `json:"flows"`
	Rate  uint64 `json:"bytes_per_second"`
}

type rowSums struct {
	Flows   uint64 `json:"flows"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Rate    uint64 `json:"bytes_per_second"`
}

var groups = map[string]flow.Group{
	"":        flow.ByFlow,
	"flow":    flow.ByFlow,
	"address": flow.ByAddress,
	"service": flow.ByService,
	"edge":    flow.ByEdge,
}

var orders = map[string]flow.Order{
	"":          flow.MostRate,
	"rate":      flow.MostRate,
	"bytes":     flow.MostBytes,
	"packets":   flow.MostPackets,
	"flows":     flow.MostFlows,
	"loss":      flow.MostLoss,
	"handshake": flow.SlowestHandshake,
	"newest":    flow.Newest,
}

// query reads what is asked of the flow tables.
func (p *Page) query(r *http.Request) (q flow.Query, err error) {
	var ok bool
	if q.By, ok = groups[r.FormValue("by")]; !ok {
		return q, errors.New("by is none of flow, address, service, edge")
	}
	if q.Order, ok = orders[r.FormValue("order")]; !ok {
		return q, errors.New("order is none of rate, bytes, packets, flows, loss, handshake, newest")
	}
	if q.Limit, err = limit(r, 25, 200); err != nil {
		return q, err
	}
	q.Match, err = view.Search(r.FormValue("q"), p.config.FeedID)
	return q, err
}

func (p *Page) flows(w http.ResponseWriter, r *http.Request) {
	if p.config.Flows == nil {
		fail(w, http.StatusNotFound, errors.New("this collector does not rebuild flows: start it with --flows"))
		return
	}
	q, err := p.query(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		fail(w, http.StatusServiceUnavailable, errors.New("too many look at the flows: close pages that nobody reads"))
		return
	}
	found, err := p.config.Flows(ctx, q)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	answer := flowAnswer{
		Rows: make([]rowAnswer, 0, len(found.Rows)),
		Rest: rowSums{
			Flows:   found.Rest.Flows,
			Packets: found.Rest.Packets[0] + found.Rest.Packets[1],
			Bytes:   found.Rest.Bytes[0] + found.Rest.Bytes[1],
			Rate:    found.Rest.Rate,
		},
	}
	labels := p.config.Labels()
	for i := range found.Rows {
		row := &found.Rows[i]
		answer.Rows = append(answer.Rows, rowAnswer{Row: export.RowOf(&row.Flow, labels), Flows: row.Flows, Rate: row.Rate})
	}
	p.answer(w, &answer)
}
