package flow

// A live flow is in two places: what every packet touches, one cache line, and
// what it seldom touches, five. Index 0 and 1 are the sides of the key; who
// began is said by hot.lead.

// hot is what every packet of the flow reads and writes.
type hot struct {
	id      uint64 // identity of the key, 0 is free: see hash
	last    uint64 // ns, newest packet
	bytes   [2]uint64
	packets [2]uint32 // a record is made before they overflow
	next    [2]uint32 // TCP: the sequence number after the newest byte seen
	seen    uint32    // tick of the newest packet
	feed    [2]uint16 // low bits of cold.feed
	missing [2]uint8  // what the mirror had lost of the feed at that side's newest packet, low bits
	flags   [2]uint8  // TCP: all flags seen
	bits    hotBits
	lead    uint8 // the side that began
	state   State
}

// hotBits are the yes-or-no of a flow.
type hotBits uint16

const (
	bitSeq0     hotBits = 1 << iota // next[0] holds
	bitSeq1                         // next[1] holds
	bitStart0                       // cold.start[0] holds: its SYN was seen
	bitStart1                       // cold.start[1] holds
	bitFin0                         // it sent FIN
	bitFin1                         //
	bitAwait                        // the first answer has not been seen
	bitAsked                        // cold.asked holds
	bitFresh                        // no packet since the last record
	bitSampled                      // counts are scaled
	bitCertain                      // lead is known, not guessed
	bitReported                     // a record of this flow was emitted before
)

// cold is what is touched when something happens.
type cold struct {
	key    key
	first  uint64 // ns, first packet since the last record
	begun  uint32 // its tick
	weight uint32 // largest sampling factor

	number    uint64 // Flow.ID
	syn       uint64 // ns, newest SYN of the side that began
	synAck    uint64 // ns, first SYN+ACK after it
	asked     uint64 // ns, first bytes of the side that began
	handshake uint64 // ns, SYN to the ACK that ends it
	serverRTT uint64 // ns, SYN to SYN+ACK
	clientRTT uint64 // ns, SYN+ACK to ACK
	firstByte uint64 // ns, to the first answer

	retransmissions [2]uint32
	outOfOrder      [2]uint32
	zeroWindows     [2]uint32
	gaps            [2]uint32
	mirrorReordered [2]uint32
	mirrorGaps      [2]uint32
	copies          [2]uint32
	resets          [2]uint16
	_               [4]byte

	holes [2][2]hole

	feed      [2]uint32 // that brought the side's newest bytes
	start     [2]uint32 // TCP: initial sequence number
	mac       [2][6]byte
	_         [4]byte
	shown     uint64 // bytes when a view last looked
	shownAt   uint64 // ns
	shownRate uint64 // bytes a second at the look before
	_         [8]byte
}

// hole is a stretch of TCP sequence numbers that was jumped over.
type hole struct {
	start, end uint32 // empty when equal
	at         uint64 // ns when it was jumped over; holeMirror: while the feed lacked packets
}

const holeMirror = 1 << 63

// State is how far a TCP connection is.
type State uint8

const (
	StateNone        State = iota // not TCP
	StateMidstream                // picked up while under way
	StateSynSent                  // SYN seen
	StateSynReceived              // SYN+ACK seen
	StateEstablished              // and its ACK
	StateClosing                  // one side sent FIN
	StateClosed                   // both did
	StateReset                    // RST seen
	stateCount
)

var stateNames = [stateCount]string{
	"none", "midstream", "syn_sent", "syn_received", "established", "closing", "closed", "reset",
}

func (s State) String() string {
	if s < stateCount {
		return stateNames[s]
	}
	return "unknown"
}

// opening reports whether the handshake is under way.
func (s State) opening() bool { return s == StateSynSent || s == StateSynReceived }

// over reports whether nothing more is expected.
func (s State) over() bool { return s == StateClosed || s == StateReset }
