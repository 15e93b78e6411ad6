package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/mirror"
)

type sendCommand struct {
	Interface string `short:"i" required:"" placeholder:"IF" help:"Interface to send on."`
	Pcap      string `required:"" placeholder:"FILE" help:"Capture whose packets are mirrored, pcap or pcapng; - for standard input."`
	Encap     string `default:"erspan2" enum:"erspan1,erspan2,erspan3,gre,gre-ip,vxlan,geneve,rspan,native" help:"How they are wrapped: erspan1, erspan2, erspan3, gre, gre-ip, vxlan, geneve, rspan, native (${default})."`

	Source         netip.Addr `placeholder:"ADDR" help:"Exporter's address; that of the interface unless given."`
	Destination    netip.Addr `placeholder:"ADDR" help:"Collector's address."`
	DestinationMAC string     `placeholder:"MAC" help:"Collector's or router's MAC; looked up in the neighbour table unless given."`
	OuterVLAN      []uint16   `placeholder:"VLAN" help:"802.1Q tag of the outer frame, outermost first, at most two."`
	TTL            uint8      `default:"64" help:"Outer TTL or hop limit (${default})."`
	DSCP           uint8      `placeholder:"N" help:"Outer DSCP, 0 to 63."`
	DF             bool       `name:"df" help:"Set DF on the outer IPv4 packet."`

	Session      uint16  `default:"1" help:"ERSPAN session id; RSPAN: the mirror's VLAN (${default})."`
	Key          *uint32 `placeholder:"N" help:"GRE key; VNI of VXLAN and Geneve."`
	Checksum     bool    `help:"Put the GRE checksum in."`
	Protocol     uint16  `placeholder:"N" help:"GRE protocol number instead of the usual one."`
	Sequence     *uint32 `placeholder:"N" help:"First sequence number (0); GRE has none without this flag."`
	SequenceBits int     `default:"32" enum:"32,30" help:"Wrap of the sequence number: 32, or 30 as the Nexus 3548 counts."`
	NoSequence   bool    `help:"ERSPAN III: no sequence numbers."`

	VLAN        uint16 `name:"vlan" placeholder:"VLAN" help:"VLAN in the ERSPAN header."`
	COS         uint8  `name:"cos" placeholder:"COS" help:"COS in the ERSPAN header, 0 to 7."`
	Tags        string `default:"literal" enum:"literal,kept,stripped" help:"What becomes of the frames' 802.1Q tags: literal (nothing), kept (and repeated in the header), stripped (moved to the header)."`
	Granularity string `default:"100ns" enum:"100us,100ns,1588,ns" help:"ERSPAN III clock: 100us, 100ns, 1588, ns (${default})."`
	Platform    int    `default:"-1" placeholder:"ID" help:"ERSPAN III platform subheader: 0, 1, 3, 4, 5, 6, 7."`
	Egress      bool   `help:"ERSPAN III: the frames are egress."`
	FrameType   uint8  `placeholder:"TYPE" help:"ERSPAN III frame type: 0 Ethernet, 2 IP (0)."`

	SnapLength int    `placeholder:"BYTES" help:"Mirror only so much of each frame."`
	FCS        bool   `name:"fcs" help:"Leave the frame check sequence on, as the Nexus 3548 does."`
	MTU        int    `placeholder:"BYTES" help:"MTU of the path; that of the interface unless given."`
	Oversize   string `default:"fragment" enum:"fragment,truncate,drop" help:"What becomes of packets over the MTU: fragment, truncate, drop (${default})."`

	LoseEvery      int `placeholder:"N" help:"Lose one packet in N."`
	DuplicateEvery int `placeholder:"N" help:"Send one packet in N twice."`
	ReorderEvery   int `placeholder:"N" help:"Send one packet in N after its successor."`

	Method string `default:"auto" enum:"auto,socket,live" help:"How to send: socket (AF_PACKET, any interface), live (XDP live frames, into a veth), auto."`
	Rate   string `default:"1kpps" placeholder:"RATE" help:"250kpps, 1.5Mpps, 10Gbit/s, or max (${default})."`
	Count  uint64 `placeholder:"N" help:"Send N packets; without --loop at most those of the capture."`
	Loop   bool   `help:"Begin again after the last packet, for ever or until --count."`
	JSON   bool   `name:"json" help:"Print what was sent as JSON."`
}

// Run mirrors the capture, and says to the packet what a receiver must find.
func (s *sendCommand) Run(ctx context.Context, e env) error {
	config := mirror.Default()
	config.Interface, config.Loop, config.Count = s.Interface, s.Loop, s.Count
	var err error
	if config.Rate, err = mirror.ParseRate(s.Rate); err != nil {
		return err
	}
	if config.Method, err = mirror.ParseMethod(s.Method); err != nil {
		return err
	}
	frames, err := readFrames(s.Pcap, e.stdin)
	if err != nil {
		return err
	}
	session, err := s.session()
	if err != nil {
		return err
	}
	config.Feeds = []mirror.Feed{{Session: session, Frames: frames}}
	if e.tty {
		config.Progress = func(st mirror.Stats) {
			fmt.Fprintf(e.stderr, "\r\x1b[K%s  %d packets  %s", st.Elapsed.Round(time.Second), st.Packets, perSecond(st))
		}
	}
	sender, err := mirror.New(config)
	if err != nil {
		return err
	}
	err = errors.Join(sender.Run(ctx), sender.Close())
	if e.tty {
		fmt.Fprint(e.stderr, "\r\x1b[K")
	}
	return errors.Join(err, s.report(e.stdout, sender, session.Sequenced))
}

func (s *sendCommand) report(w io.Writer, sender *mirror.Sender, sequenced bool) error {
	st := sender.Stats()
	if s.JSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(st)
	}
	f := st.Feeds[0]
	found := fmt.Sprintf("a receiver must find: %d sequence numbers, %d lost, %d duplicated, %d reordered", f.Numbers, f.Lost, f.Duplicated, f.Reordered)
	if !sequenced {
		found = fmt.Sprintf("a receiver cannot see that %d were lost, %d duplicated, %d reordered: there are no sequence numbers", f.Lost, f.Duplicated, f.Reordered)
	}
	_, err := fmt.Fprintf(w, "sent %d packets in %d frames, %d bytes, in %s (%s), by %s\n%s\n",
		st.Packets, st.Frames, st.Bytes, st.Elapsed.Round(time.Millisecond), perSecond(st), sender.Method(), found)
	if err == nil && f.Skipped > 0 {
		_, err = fmt.Fprintf(w, "%d packets of the capture were left out in every round: the session cannot carry them\n", f.Skipped)
	}
	if err == nil && st.DeviceDropped > 0 {
		_, err = fmt.Fprintf(w, "%d of the frames were dropped by the device: the other end had no room\n", st.DeviceDropped)
	}
	return err
}

func perSecond(st mirror.Stats) string {
	seconds := st.Elapsed.Seconds()
	if seconds == 0 {
		return "no time"
	}
	return fmt.Sprintf("%.3f Mpps, %.2f Gbit/s", float64(st.Packets)/seconds/1e6, float64(st.Bytes)*8/seconds/1e9)
}

// session is what the flags describe, addressed on the interface.
func (s *sendCommand) session() (mirror.Session, error) {
	encap, _ := bpf.ParseEncap(s.Encap) // the flag takes no other names
	m := mirror.DefaultSession(encap)
	if err := s.misfit(encap); err != nil {
		return m, err
	}
	m.OuterVLANs, m.TTL, m.DSCP, m.DontFragment = s.OuterVLAN, s.TTL, s.DSCP, s.DF
	m.ID, m.Checksum, m.Protocol = s.Session, s.Checksum, s.Protocol
	m.SequenceBits = s.SequenceBits
	if s.Sequence != nil {
		m.Sequence, m.Sequenced = *s.Sequence, true
	}
	if s.Key != nil {
		m.Key, m.Keyed = *s.Key, true
	}
	if s.NoSequence {
		m.Sequenced = false
	}
	m.VLAN, m.COS, m.Egress, m.FrameType = s.VLAN, s.COS, s.Egress, s.FrameType
	m.Tags = map[string]mirror.Tags{"literal": mirror.TagsLiteral, "kept": mirror.TagsKept, "stripped": mirror.TagsStripped}[s.Tags]
	m.Oversize = map[string]mirror.Oversize{"fragment": mirror.OversizeFragment, "truncate": mirror.OversizeTruncate, "drop": mirror.OversizeDrop}[s.Oversize]
	m.Granularity = map[string]mirror.Granularity{"100us": mirror.Granularity100us, "100ns": mirror.Granularity100ns, "1588": mirror.Granularity1588, "ns": mirror.GranularityNS}[s.Granularity]
	if s.Platform >= 0 {
		m.Platform = uint8(s.Platform)
	}
	m.SnapLength, m.FCS, m.MTU = s.SnapLength, s.FCS, s.MTU
	m.LoseEvery, m.DuplicateEvery, m.ReorderEvery = s.LoseEvery, s.DuplicateEvery, s.ReorderEvery
	return m, s.address(&m)
}

// misfit names a flag for which the encapsulation has no place: what is sent
// would not be what was asked for.
func (s *sendCommand) misfit(encap bpf.Encap) error {
	is := func(any ...bpf.Encap) bool { return slices.Contains(any, encap) }
	erspan3 := is(bpf.EncapERSPAN3)
	erspan := erspan3 || is(bpf.EncapERSPAN2)
	plain := is(bpf.EncapGRE, bpf.EncapGREIP)
	gre := erspan || plain || is(bpf.EncapERSPAN1)
	for _, f := range []struct {
		flag        string
		given, fits bool
	}{
		{"platform", s.Platform >= 0, erspan3},
		{"egress", s.Egress, erspan3},
		{"frame-type", s.FrameType != 0, erspan3},
		{"no-sequence", s.NoSequence, erspan3 || plain},
		{"vlan", s.VLAN != 0, erspan},
		{"cos", s.COS != 0, erspan},
		{"sequence", s.Sequence != nil, erspan || plain},
		{"checksum", s.Checksum, gre},
		{"protocol", s.Protocol != 0, gre},
		{"key", s.Key != nil, gre || is(bpf.EncapVXLAN, bpf.EncapGeneve)},
	} {
		if f.given && !f.fits {
			return fmt.Errorf("--%s: %s has no place for it: leave it out, or choose another --encap", f.flag, s.Encap)
		}
	}
	return nil
}

// address fills in the outer addresses: what was not given is found out from
// routes and neighbours.
func (s *sendCommand) address(m *mirror.Session) error {
	link, err := net.InterfaceByName(s.Interface)
	if err != nil {
		return fmt.Errorf("finding interface %s: %w: ip -br link lists them", s.Interface, err)
	}
	if link.Flags&net.FlagUp == 0 {
		return fmt.Errorf("interface %s is down: ip link set dev %s up", s.Interface, s.Interface)
	}
	m.SourceMAC = link.HardwareAddr
	if m.Encap == bpf.EncapRSPAN || m.Encap == bpf.EncapNative {
		return nil
	}
	if !s.Destination.IsValid() {
		return errors.New("--destination: name the collector's address")
	}
	m.Source, m.Destination = s.Source, s.Destination
	if s.DestinationMAC != "" {
		if m.DestinationMAC, err = net.ParseMAC(s.DestinationMAC); err != nil {
			return fmt.Errorf("--destination-mac: %w", err)
		}
		if m.Source.IsValid() {
			return nil // nothing is left to be found out
		}
	}
	path, err := mirror.Resolve(s.Interface, s.Destination)
	if err != nil {
		return err
	}
	if !m.Source.IsValid() {
		m.Source = path.Source
	}
	if m.DestinationMAC == nil {
		m.DestinationMAC = path.DestinationMAC
	}
	return nil
}

// readFrames reads the Ethernet frames of a capture into memory.
func readFrames(name string, stdin io.Reader) ([][]byte, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("opening capture: %w", err)
		}
		defer f.Close()
		in = f
	}
	r, err := pcapng.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var frames [][]byte
	var p pcapng.Packet
	for {
		switch err := r.Next(&p); {
		case err == io.EOF && len(frames) == 0:
			return nil, fmt.Errorf("%s: no packets in it", name)
		case err == io.EOF:
			return frames, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		case p.Interface.LinkType != pcapng.LinkEthernet:
			return nil, fmt.Errorf("%s: packets of link type %d: only Ethernet frames can be mirrored", name, p.Interface.LinkType)
		}
		frames = append(frames, bytes.Clone(p.Data))
	}
}
