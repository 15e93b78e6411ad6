package mirror

import (
	"errors"
	"fmt"
	"time"
)

// plan is what to send, made from a Config and a device. It does not change.
type plan struct {
	feeds []plannedFeed
	rate  Rate
	loop  bool
	count uint64
	cpu   int
}

// plannedFeed is a feed whose session is ready and whose frames are looked through.
type plannedFeed struct {
	wrapper *Wrapper
	frames  [][]byte
	usable  []uint32 // indexes of the frames that the session carries
}

func newPlan(cfg *Config, device *device) (*plan, error) {
	p := &plan{rate: cfg.Rate, loop: cfg.Loop, count: cfg.Count, cpu: cfg.CPU}
	carried := 0
	for i, feed := range cfg.Feeds {
		planned, err := planFeed(feed, device)
		if err != nil {
			return nil, fmt.Errorf("feed %d: %w", i, err)
		}
		carried += len(planned.usable)
		p.feeds = append(p.feeds, planned)
	}
	if carried == 0 {
		return nil, errors.New("feeds: none of the frames can be sent: too short or too long, or not IP where bare IP is carried")
	}
	return p, nil
}

func planFeed(feed Feed, device *device) (plannedFeed, error) {
	session := feed.Session.clone()
	if session.SourceMAC == nil {
		session.SourceMAC = device.mac
	}
	room := device.room(len(session.OuterVLANs))
	if session.MTU == 0 {
		session.MTU = room
	}
	if session.MTU > room && session.carriedByIP() {
		return plannedFeed{}, fmt.Errorf("mtu %d: %s takes packets of %d bytes: ip link set %s mtu %d",
			session.MTU, device.name, room, device.name, session.MTU+device.mtu-room)
	}
	wrapper, err := NewWrapper(session)
	if err != nil {
		return plannedFeed{}, err
	}
	planned := plannedFeed{wrapper: wrapper, frames: feed.Frames}
	var buf []byte
	for i, frame := range feed.Frames {
		buf, err = wrapper.Wrap(buf[:0], frame, Stamp{})
		if err != nil {
			continue
		}
		if !session.carriedByIP() && len(buf) > device.longest(buf) {
			continue
		}
		planned.usable = append(planned.usable, uint32(i))
	}
	return planned, nil
}

// schedule begins the order of packets anew.
func (p *plan) schedule() *schedule { return newSchedule(p.feeds) }

// wrap appends the packet of an event to dst.
func (p *plan) wrap(dst []byte, e event, stamp Stamp) []byte {
	feed := &p.feeds[e.feed]
	dst, _ = feed.wrapper.Wrap(dst, feed.frames[e.frame], stamp) // newPlan has seen it succeed
	return dst
}

// stamp is that of an event sent now.
func (p *plan) stamp(e event, now time.Time) Stamp {
	return Stamp{
		Number: p.feeds[e.feed].wrapper.session.Sequence + uint32(e.number),
		Time:   uint64(now.UnixNano()),
	}
}

// newStats has a place for each feed.
func (p *plan) newStats() Stats {
	s := Stats{Feeds: make([]FeedStats, len(p.feeds))}
	for i, f := range p.feeds {
		s.Feeds[i].Skipped = len(f.frames) - len(f.usable)
	}
	return s
}

// fastRate is the packet rate from which live frames are worth a CPU: below it a
// socket does as well, and sleeps in between.
const fastRate = 100_000

// fast reports whether the plan asks for more packets a second than a socket
// should send.
func (p *plan) fast() bool {
	if !p.rate.limited() {
		return p.loop || p.count > fastRate
	}
	const small = 128 // bytes; the wrapped packets of a feed are hardly smaller
	return 1e9/max(p.rate.cost(small, true), 1) >= fastRate
}
