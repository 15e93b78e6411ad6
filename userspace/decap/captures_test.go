package decap_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/reassembly"
)

// captured is one packet of a capture file.
type captured struct {
	link decap.LinkType
	data []byte
	wire int
	time uint64
}

// captureFiles names the public captures, or skips the test where there are none.
func captureFiles(t testing.TB) []string {
	t.Helper()
	folder, files := findCaptures(t)
	if len(files) == 0 {
		t.Skipf("no captures in %s: set UNSPAN_CAPTURES to the folder that has them", folder)
	}
	return files
}

func findCaptures(t testing.TB) (folder string, files []string) {
	t.Helper()
	folder = os.Getenv("UNSPAN_CAPTURES")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "captures")
	}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".pcap") || strings.HasSuffix(path, ".pcapng") {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return folder, files
}

// readCapture reads a capture file up to its end, or to where it is damaged, as
// some are on purpose: what is missing then is missed by TestCaptures.
func readCapture(t testing.TB, path string) []captured {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapng.NewReader(file)
	if err != nil {
		return nil
	}
	var packets []captured
	for {
		var p pcapng.Packet
		if err := r.Next(&p); err != nil {
			return packets
		}
		packets = append(packets, captured{
			link: decap.LinkType(p.Interface.LinkType),
			data: slices.Clone(p.Data),
			wire: int(p.OrigLen),
			time: p.Time,
		})
	}
}

// expectedFrame is an entry of X.expected.json: what an independent decapsulator
// and tshark found.
type expectedFrame struct {
	number        int
	encap         string
	session, vlan *uint32 // nil: the encapsulation has none
	length        int
	hash          string
}

func (f *expectedFrame) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&f.number, &f.encap, &f.session, &f.vlan, &f.length, &f.hash})
}

// expectedEncaps are the encapsulations of expected.json that Unspan knows.
var expectedEncaps = map[string]bpf.Encap{
	"erspan1": bpf.EncapERSPAN1, "erspan2": bpf.EncapERSPAN2, "erspan3": bpf.EncapERSPAN3,
	"gre-teb": bpf.EncapGRE, "vxlan": bpf.EncapVXLAN, "geneve": bpf.EncapGeneve,
}

func readExpected(t *testing.T, path string) []expectedFrame {
	t.Helper()
	data, err := os.ReadFile(path + ".expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var sidecar struct {
		Expected struct{ Frames []expectedFrame }
	}
	if err := json.Unmarshal(data, &sidecar); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return sidecar.Expected.Frames
}

// found is one Ethernet frame that came out.
type found struct {
	number int
	encap  bpf.Encap
	key    bpf.FeedKey
	record bpf.Record
	inner  []byte
}

// decapsulate takes a whole capture through the engine, as unspan decap does.
func decapsulate(t *testing.T, packets []captured, encaps ...bpf.Encap) []found {
	t.Helper()
	s := everything()
	s.config.Accept = accept(encaps...)
	s.config.AnyDestination = 1
	feeds := feed.NewTable(feed.Max)
	engine := decap.New(s.config, nil, feeds)
	pieces, err := reassembly.New(reassembly.Default())
	if err != nil {
		t.Fatal(err)
	}

	var frames []found
	for i, p := range packets {
		rec, inner, v := engine.Captured(p.link, slices.Clone(p.data), p.wire, p.time)
		if v == bpf.RedirectFragment {
			whole, done := pieces.Add(reassembly.Fragment{
				Data: inner, RawIP: rec.Flags&bpf.RecordRawIP != 0, Time: p.time, Record: rec,
			})
			if !done {
				continue
			}
			rec, inner, v = engine.Datagram(whole.Frame, &whole.Record, whole.Time)
		}
		if v != bpf.RedirectInner || rec.Flags&bpf.RecordRawIP != 0 {
			continue
		}
		key, err := feeds.FeedKey(rec.Feed)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, found{i + 1, bpf.Encap(rec.Encap), key, rec, slices.Clone(inner)})
	}

	var seen uint64
	for _, box := range engine.Frames() {
		seen += box.Packets
	}
	if seen != uint64(len(packets)) {
		t.Errorf("the verdicts of %d packets sum to %d", len(packets), seen)
	}
	return frames
}

// TestCaptures: the frames of every public capture are those that an independent
// decapsulator and tshark found, in order.
func TestCaptures(t *testing.T) {
	mirrors := []bpf.Encap{bpf.EncapERSPAN1, bpf.EncapERSPAN2, bpf.EncapERSPAN3, bpf.EncapGRE}
	all := append(slices.Clone(mirrors), bpf.EncapVXLAN, bpf.EncapGeneve, bpf.EncapGREIP)
	for _, path := range captureFiles(t) {
		packets := readCapture(t, path)
		expected := readExpected(t, path)
		for name, encaps := range map[string][]bpf.Encap{"mirrors": mirrors, "all": all} {
			t.Run(filepath.Base(path)+"/"+name, func(t *testing.T) {
				want := slices.Clone(expected)
				want = slices.DeleteFunc(want, func(f expectedFrame) bool {
					e, known := expectedEncaps[f.encap]
					return !known || !slices.Contains(encaps, e)
				})
				compareFrames(t, decapsulate(t, packets, encaps...), want)
			})
		}
	}
}

func compareFrames(t *testing.T, got []found, want []expectedFrame) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		sum := sha256.Sum256(g.inner)
		switch hash := hex.EncodeToString(sum[:8]); {
		case g.number != w.number || g.encap != expectedEncaps[w.encap] || len(g.inner) != w.length || hash != w.hash:
			t.Fatalf("frame %d: %s, %d bytes, %s; want %+v", g.number, bpf.EncapName(g.encap), len(g.inner), hash, w)
		case w.vlan != nil && uint32(g.record.Tci&0xfff) != *w.vlan:
			t.Errorf("frame %d: VLAN %d, want %d", g.number, g.record.Tci&0xfff, *w.vlan)
		case w.session != nil && session(&g) != *w.session:
			t.Errorf("frame %d: session, VNI or key %d, want %d", g.number, session(&g), *w.session)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d frames, want %d", len(got), len(want))
	}
}

// session is what expected.json calls so: what tells the sessions of an
// encapsulation apart.
func session(f *found) uint32 {
	switch f.encap {
	case bpf.EncapERSPAN2, bpf.EncapERSPAN3:
		return uint32(f.key.Session)
	}
	return f.key.Key
}
