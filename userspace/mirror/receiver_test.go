package mirror_test

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/lab"
)

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "packet sockets and network namespaces need root: run sudo go test"
	if os.Getenv("UNSPAN_CI") == "1" {
		tb.Fatal(reason)
	}
	tb.Skip(reason)
}

func mustLab(tb testing.TB, cfg lab.Config) *lab.Lab {
	tb.Helper()
	l, err := lab.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// receiver sees every frame that arrives at one end of a lab, bytes as they were
// on the wire.
type receiver struct{ fd int }

// mustReceive starts to receive.
func mustReceive(tb testing.TB, n *lab.Namespace) *receiver {
	tb.Helper()
	var fd int
	if err := n.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: n.Ifindex}),
		)
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	return &receiver{fd}
}

// frames waits for so many frames.
func (r *receiver) frames(tb testing.TB, n int) [][]byte {
	tb.Helper()
	frames := make([][]byte, 0, n)
	buf, control := make([]byte, 1<<17), make([]byte, 256)
	for len(frames) < n {
		length, controlLength, _, _, err := unix.Recvmsg(r.fd, buf, control, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			tb.Fatalf("after %d of %d frames: %v", len(frames), n, err)
		}
		frames = append(frames, putTagBack(tb, buf[:length], control[:controlLength]))
	}
	return frames
}

// putTagBack makes the frame what it was before the kernel took the outermost
// tag out of it (skb_vlan_untag).
func putTagBack(tb testing.TB, frame, control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA {
			continue
		}
		if aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0])); aux.Status&unix.TP_STATUS_VLAN_VALID != 0 {
			tag := binary.BigEndian.AppendUint16(nil, aux.Vlan_tpid)
			tag = binary.BigEndian.AppendUint16(tag, aux.Vlan_tci)
			return slices.Concat(frame[:12], tag, frame[12:])
		}
	}
	return slices.Clone(frame)
}

// none checks that nothing more has arrived.
func (r *receiver) none(tb testing.TB) {
	tb.Helper()
	buf := make([]byte, 1<<17)
	if n, _, err := unix.Recvfrom(r.fd, buf, unix.MSG_DONTWAIT); err == nil {
		tb.Errorf("one frame more, of %d bytes: %x", n, buf[:n])
	}
}

// within runs a test that has a minute; it is about hanging, not about speed.
func within(tb testing.TB, f func() error) {
	tb.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			tb.Fatal(err)
		}
	case <-time.After(time.Minute):
		tb.Fatal("still running after a minute")
	}
}
