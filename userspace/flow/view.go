package flow

// View adds up flows that are in no table, such as the records of a file. One
// goroutine owns it.
type View struct{ request *request }

// NewView begins without a flow. A Limit of 0 is none, unlike that of Ask.
func NewView(q Query) *View { return &View{newRequest(q)} }

// Add takes a flow if it matches.
func (v *View) Add(f *Flow) {
	if v.request.query.Match.flow(f) {
		v.request.put(Row{Flow: *f, Flows: 1})
	}
}

// Answer is what was added. The View is used up by it.
func (v *View) Answer() Answer { return v.request.answer() }

// flow is the whole of a Match, for a flow.
func (m *Match) flow(f *Flow) bool {
	switch {
	case m.Protocol != 0 && m.Protocol != f.Protocol,
		m.Port != 0 && m.Port != f.Port[0] && m.Port != f.Port[1],
		m.VLAN != 0 && m.VLAN != f.VLAN[0] && m.VLAN != f.VLAN[1],
		m.Domain != 0 && m.Domain != f.Domain,
		m.Feed != 0 && m.Feed != f.Feed[0] && m.Feed != f.Feed[1]:
		return false
	}
	return !m.Address.IsValid() || f.IsIP() && (m.Address.Contains(f.Addr(0).Unmap()) || m.Address.Contains(f.Addr(1).Unmap()))
}
