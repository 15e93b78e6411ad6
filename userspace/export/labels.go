package export

import (
	"net/netip"

	"github.com/unspan/unspan/userspace/flow"
)

// Labels gives names to what records have as numbers and addresses; "" is no
// name. Its functions may be called by any goroutine, and any of them may be
// nil. A nil Labels names nothing.
type Labels struct {
	Feed    func(id uint32) string
	Address func(netip.Addr) string
	MAC     func([6]byte) string
}

// FeedName is what a feed is called.
func (l *Labels) FeedName(id uint32) string {
	if l == nil || l.Feed == nil || id == 0 {
		return ""
	}
	return l.Feed(id)
}

// EndName is what the host at one side of a flow is called: by its IP address,
// or by its MAC address when the flow is not IP.
func (l *Labels) EndName(f *flow.Flow, side int) string {
	switch {
	case l == nil:
	case f.IsIP() && l.Address != nil:
		return l.Address(f.Addr(side))
	case !f.IsIP() && l.MAC != nil:
		return l.MAC(f.MAC[side])
	}
	return ""
}
