package decap_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/policy"
)

// pair is the two halves under the same settings: what one does the other must do.
type pair struct {
	kernel *kernel
	engine *decap.Engine
	feeds  *feed.Table
	now    uint64
	mine   []byte // the engine's copy of the frame
	inputs int
}

func newPair(t testing.TB, s setup, socket int) *pair {
	t.Helper()
	feeds := feed.NewTable(feed.Max)
	return &pair{
		kernel: newKernel(t, s, socket),
		engine: s.engineWith(feeds),
		feeds:  feeds,
		mine:   make([]byte, 1<<17),
	}
}

// full reports that the pair has seen enough: soon the kernel would begin to
// forget datagrams, which it does by halves of a page and not one by one.
func (p *pair) full() bool { return p.engine.Remembered() > decap.MaxDatagrams/2 }

// check gives both halves a frame and says where they differ: in what becomes
// of it, in the record, or in the bytes behind it.
func (p *pair) check(frame []byte) error {
	if len(frame) < 14 {
		return nil // no test run takes less than an Ethernet header
	}
	p.inputs++
	action, out, err := p.kernel.run(frame)
	if err != nil {
		return err
	}
	var (
		theirs *bpf.Record
		inner  []byte
	)
	if action == xdpRedirect {
		var ok bool
		if theirs, inner, ok = bpf.Split(out); !ok {
			return fmt.Errorf("what the kernel redirects is no record and frame: % x", out)
		}
		p.now = theirs.Time
	}

	mine := p.mine[:copy(p.mine, frame)]
	rec, got, v := p.engine.Decap(mine, p.now)
	if actionOf(v) != action {
		return fmt.Errorf("the kernel's action is %d, the engine's verdict %s", action, bpf.VerdictName(v))
	}
	switch action {
	case xdpPass:
		if !bytes.Equal(out, frame) {
			return fmt.Errorf("%s, and the kernel changed the frame to % x", bpf.VerdictName(v), out)
		}
	case xdpRedirect:
		if *theirs != rec {
			return fmt.Errorf("%s: record of the kernel %+v\nand of the engine %+v", bpf.VerdictName(v), *theirs, rec)
		}
		if !bytes.Equal(inner, got) {
			return fmt.Errorf("%s: inner frame of the kernel % x\nand of the engine % x", bpf.VerdictName(v), inner, got)
		}
	}
	return nil
}

// settle compares what both have counted so far: verdicts, feeds, sequences.
func (p *pair) settle() error {
	theirs, err := p.kernel.datapath.Verdicts()
	if err != nil {
		return err
	}
	if mine := p.engine.Frames(); mine != theirs {
		for v := range mine {
			if mine[v] != theirs[v] {
				err = errors.Join(err, fmt.Errorf("%s: the kernel counted %+v, the engine %+v", bpf.VerdictName(bpf.Verdict(v)), theirs[v], mine[v]))
			}
		}
		return err
	}

	table, err := p.kernel.datapath.Feeds()
	if err != nil {
		return err
	}
	i := 0
	for key, state := range p.feeds.All() {
		if i == len(table) {
			return fmt.Errorf("the kernel knows %d feeds, the engine more", i)
		}
		f := table[i]
		if state.Kept < state.Packets && f.State.First <= f.State.Last {
			// When a packet came that was dropped, only the kernel knows.
			f.State.First, f.State.Last = state.First, state.Last
		}
		if i++; f.ID != uint32(i) || f.Key != key || f.State != state {
			return fmt.Errorf("feed %d %s: the kernel's books %+v\nand the engine's %+v", f.ID, feed.Name(&key), f.State, state)
		}
	}
	if i != len(table) {
		return fmt.Errorf("the kernel knows %d feeds, the engine %d", len(table), i)
	}
	return nil
}

// ruled has a rule of each kind whose answer does not hang on the CPU: those are
// compared in userspace/policy.
func ruled(s *setup) {
	rspan(s)
	s.policy.Rules = []policy.Rule{
		{Encaps: []bpf.Encap{bpf.EncapERSPAN2}, Sessions: []policy.Range{{First: 0, Last: 255}}, Action: policy.Action{OneIn: 1, Snap: 40}},
		{VLANs: []policy.Range{{First: 1, Last: 1000}}, Action: policy.Action{OneIn: 2, ByFlow: true}},
		{Direction: policy.Egress, Action: policy.Action{Drop: true}},
		{Encaps: []bpf.Encap{bpf.EncapRSPAN, bpf.EncapVXLAN}, Action: policy.Action{OneIn: 1, Snap: 20}},
		{Keys: []policy.Range{{First: 0, Last: 1 << 31}}, Action: policy.Action{OneIn: 3, ByFlow: true, Snap: 64}},
	}
	s.policy.Default = policy.Action{OneIn: 1, Snap: 1000}
}

// setups are the settings under which the two are compared.
func setups() map[string]setup {
	tap := everything()
	tap.config.AnyDestination = 1
	tap.config.MultiBuffer = 1
	with := func(s setup, change ...func(*setup)) setup {
		for _, f := range change {
			f(&s)
		}
		return s
	}
	return map[string]setup{
		"tap":       tap,
		"defaults":  with(tap, only(bpf.EncapERSPAN1, bpf.EncapERSPAN2, bpf.EncapERSPAN3, bpf.EncapGRE)),
		"collector": with(tap, func(s *setup) { s.config.AnyDestination = 0 }),
		"rspan":     with(tap, rspan),
		"native":    with(tap, rspan, also(bpf.EncapNative)),
		"extra": with(tap, extra(0x8949, bpf.EncapERSPAN2), func(s *setup) {
			s.config.GreProtocols[0] = s.config.GreProtocols[7]
			s.config.GreProtocols[0].Encap = uint8(bpf.EncapGRE)
		}),
		"listed":     with(tap, exporters(true, "192.0.2.0/24", "192.0.2.4/30", "2001:db8::/32", "10.0.0.0/8")),
		"strangers":  with(tap, exporters(false, "203.0.113.0/25")),
		"udp":        with(tap, only(bpf.EncapVXLAN, bpf.EncapGeneve)),
		"rules":      with(tap, ruled),
		"unwrap":     with(tap, ruled, func(s *setup) { s.policy.Loops = policy.LoopUnwrap }),
		"no loops":   with(tap, rspan, func(s *setup) { s.policy.Loops = policy.LoopKeep }),
		"16 workers": with(tap, func(s *setup) { s.config.Workers = 16 }),
	}
}

// rowFrames are the frames of the tables here.
func rowFrames() (frames [][]byte) {
	for _, row := range rows {
		frames = append(frames, row.frame)
	}
	udpHead := fragment4(overlay, 0, true)
	return append(frames, head4, tail4, head6, tail6, udpHead, with(tail4, l3+9, 17),
		fragment4(eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0)[:4])), 0, true),
		eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0), inside, make([]byte, 8900))))
}

// TestAgreeOnCaptures gives both halves every Ethernet packet of every capture.
func TestAgreeOnCaptures(t *testing.T) {
	needRoot(t)
	socket := openSocket(t)
	frames := rowFrames()
	for _, path := range captureFiles(t) {
		for _, p := range readCapture(t, path) {
			if p.link == decap.Ethernet {
				frames = append(frames, p.data)
			}
		}
	}
	for name, s := range setups() {
		t.Run(name, func(t *testing.T) { agree(t, s, socket, frames) })
	}
}

// TestAgreeOnRows is the same for the tables of this package, which every
// checkout has, also under the settings of each row.
func TestAgreeOnRows(t *testing.T) {
	needRoot(t)
	socket := openSocket(t)
	for name, s := range setups() {
		t.Run(name, func(t *testing.T) { agree(t, s, socket, rowFrames()) })
	}
	type group struct {
		setup  setup
		frames [][]byte
	}
	groups := map[string]group{} // a program is loaded for each
	for _, row := range rows {
		if row.setup == nil {
			continue // "collector" above
		}
		s := everything()
		row.setup(&s)
		name := fmt.Sprint(s)
		groups[name] = group{s, append(groups[name].frames, row.frame)}
	}
	for _, g := range groups {
		agree(t, g.setup, socket, g.frames)
	}
}

func agree(t *testing.T, s setup, socket int, frames [][]byte) {
	t.Helper()
	p := newPair(t, s, socket)
	defer p.kernel.close(t)
	for _, frame := range frames {
		if len(frame) > 1<<16-1 {
			continue // longer than a test run takes
		}
		if err := p.check(frame); err != nil {
			t.Fatalf("%v\nframe %s", err, hex.EncodeToString(frame))
		}
	}
	if err := p.settle(); err != nil {
		t.Fatal(err)
	}
}

// TestNoSocket: where nobody listens, all that would be delivered is passed
// untouched, and counts in no feed.
func TestNoSocket(t *testing.T) {
	needRoot(t)
	k := newKernel(t, everything(), -1)
	defer k.close(t)
	engine := everything().engine()
	var want decap.Tallies
	for _, frame := range rowFrames() {
		if len(frame) < 14 {
			continue
		}
		_, _, v := engine.Decap(slices.Clone(frame), now)
		if v >= bpf.RedirectFragment {
			v = bpf.PassNoSocket
		}
		want[v].Packets++
		want[v].Bytes += uint64(len(frame))
		action, out, err := k.run(frame)
		if err != nil {
			t.Fatal(err)
		}
		if action != actionOf(v) || action == xdpPass && !bytes.Equal(out, frame) {
			t.Fatalf("%s: action %d\nframe %x\nout %x", bpf.VerdictName(v), action, frame, out)
		}
	}
	got, err := k.datapath.Verdicts()
	if err != nil || got != want {
		t.Errorf("verdicts %v, %v\nwant %v", got, err, want)
	}
	if feeds, err := k.datapath.Feeds(); err != nil || len(feeds) != 0 {
		t.Errorf("feeds %v, %v", feeds, err)
	}
}

// TestTooBig: a frame in several buffers is counted and dropped where AF_XDP
// takes only one.
func TestTooBig(t *testing.T) {
	needRoot(t)
	k := newKernel(t, everything(), openSocket(t))
	defer k.close(t)
	big := eth(0x0800, ip4(47, gre(0, 0x88be), inside, make([]byte, linear)))
	if action, _, err := k.run(big); err != nil || action != xdpDrop {
		t.Errorf("action %d, %v", action, err)
	}
	got, err := k.datapath.Verdicts()
	if want := (decap.Tallies{bpf.DropTooBig: {Packets: 1, Bytes: uint64(len(big))}}); err != nil || got != want {
		t.Errorf("verdicts %v, %v", got, err)
	}
}

// TestAgreeOnSequences walks the sequence tracker along its edges: the window,
// the jump that is a restart, the wraps at 2^30 and 2^32.
func TestAgreeOnSequences(t *testing.T) {
	needRoot(t)
	p := newPair(t, everything(), openSocket(t))
	defer p.kernel.close(t)
	random := rand.New(rand.NewPCG(1, 2))
	steps := []uint32{0, 0, 0, 0, 1, 2, 61, 62, 63, 64, 65, 1<<24 - 2, 1<<24 - 1, 1 << 24, 1<<24 + 1, 1 << 30, 1 << 31}
	wraps := []uint32{0, 1 << 30, 1<<30 - 1<<16, 1<<30 + 1, 1 << 16, 1 << 31}
	next := uint32(0)
	for range 200_000 {
		number := next
		switch random.IntN(40) {
		case 0: // near where something turns
			number = wraps[random.IntN(len(wraps))] + random.Uint32N(6) - 3
		case 1, 2, 3, 4, 5, 6: // late
			number -= steps[random.IntN(len(steps))]
		case 7, 8, 9, 10, 11, 12: // early
			number += steps[random.IntN(len(steps))]
		}
		next = number + 1
		if random.IntN(8) == 0 { // a sender that counts in 30 bits
			next &= 1<<30 - 1
		}
		if err := p.check(with(type2, l4+4, u32(number)...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.settle(); err != nil {
		t.Fatal(err)
	}
}

// round is a number of mutations under one setup, from fresh state: its seed
// says all, so a disagreement can be found again.
const round = 20_000

// TestAgree gives both halves mutations of every header. UNSPAN_FUZZ_INPUTS says
// how many, UNSPAN_FUZZ_SEED where to begin.
func TestAgree(t *testing.T) {
	needRoot(t)
	inputs := environment(t, "UNSPAN_FUZZ_INPUTS", 400_000)
	seed := uint64(environment(t, "UNSPAN_FUZZ_SEED", 1))
	if testing.Short() {
		inputs = 2 * round
	}
	socket := openSocket(t)
	seeds := mutationSeeds(t)
	all := setups()
	names := sortedNames(all)

	start, done, verdicts := time.Now(), 0, decap.Tallies{}
	for ; done < inputs; seed++ {
		name := names[seed%uint64(len(names))]
		n, frames, err := runRound(t, all[name], socket, seeds, seed)
		if err != nil {
			t.Fatalf("setup %s, seed %d, after %d inputs: %v", name, seed, done+n, err)
		}
		done += n
		for v := range frames {
			verdicts[v].Packets += frames[v].Packets
		}
	}
	t.Logf("%d inputs, 0 disagreements, %.0f inputs/s", done, float64(done)/time.Since(start).Seconds())
	reached := 0
	for v := range verdicts {
		t.Logf("%10d %s", verdicts[v].Packets, bpf.VerdictName(bpf.Verdict(v)))
		if verdicts[v].Packets > 0 {
			reached++
		}
	}
	// Mutations that do not get anywhere prove nothing.
	for _, row := range rows {
		if !testing.Short() && verdicts[row.want].Packets == 0 && row.want != bpf.VerdictNone {
			t.Errorf("no mutation ended as %s", bpf.VerdictName(row.want))
		}
	}
}

// runRound compares up to round mutations. When the books differ at its end it
// runs once more and compares them after every input, to say which one it was.
func runRound(t testing.TB, s setup, socket int, seeds []mutationSeed, seed uint64) (int, decap.Tallies, error) {
	n, frames, err := mutateAndCompare(t, s, socket, seeds, seed, false)
	if errors.Is(err, errBooks) {
		if _, _, exact := mutateAndCompare(t, s, socket, seeds, seed, true); exact != nil {
			err = exact
		}
	}
	return n, frames, err
}

var errBooks = errors.New("the books differ")

func mutateAndCompare(t testing.TB, s setup, socket int, seeds []mutationSeed, seed uint64, eachInput bool) (int, decap.Tallies, error) {
	t.Helper()
	p := newPair(t, s, socket)
	defer p.kernel.close(t)
	m := mutator{random: rand.New(rand.NewPCG(seed, 0x756e7370616e)), seeds: seeds}
	for p.inputs < round && !p.full() {
		frame := m.next()
		if err := p.check(frame); err != nil {
			return p.inputs, p.engine.Frames(), fmt.Errorf("%w\nframe %x", err, frame)
		}
		if !eachInput {
			continue
		}
		if err := p.settle(); err != nil {
			return p.inputs, p.engine.Frames(), fmt.Errorf("%w: %w\nframe %x", errBooks, err, frame)
		}
	}
	if err := p.settle(); err != nil {
		return p.inputs, p.engine.Frames(), fmt.Errorf("%w: %w", errBooks, err)
	}
	return p.inputs, p.engine.Frames(), nil
}

// FuzzAgree lets go test -fuzz look for frames on which the halves differ. The
// first byte chooses the setup. Books take longer to read than frames to run, so
// they are compared now and then: a difference there may be an earlier frame's.
func FuzzAgree(f *testing.F) {
	needRoot(f)
	socket := openSocket(f)
	all := setups()
	names := sortedNames(all)
	for i, frame := range rowFrames() {
		f.Add(append([]byte{byte(i)}, frame...))
	}
	pairs := make([]*pair, len(names))
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) < 1+14 || len(input) > linear {
			return
		}
		i := int(input[0]) % len(names)
		if p := pairs[i]; p == nil || p.full() {
			if p != nil {
				p.kernel.close(t)
			}
			pairs[i] = newPair(t, all[names[i]], socket)
		}
		err := pairs[i].check(input[1:])
		if pairs[i].inputs%128 == 1 {
			err = errors.Join(err, pairs[i].settle())
		}
		if err != nil {
			t.Fatalf("setup %s: %v", names[i], err)
		}
	})
}

func sortedNames(all map[string]setup) []string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func environment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
